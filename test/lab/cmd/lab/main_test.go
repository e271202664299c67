package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The lab runs until the pipe on its standard input closes, and has written by
// then what a shell needs.
func TestRunUntilStdinCloses(t *testing.T) {
	dir := t.TempDir()
	script, ready, ca := filepath.Join(dir, "s.lab"), filepath.Join(dir, "ready"), filepath.Join(dir, "it's a ca.pem")
	require.NoError(t, os.WriteFile(script, []byte("* site\na.test:8084 refuse\n"), 0o600))
	stdin, leash, err := os.Pipe()
	require.NoError(t, err)
	defer stdin.Close()
	out, printed, err := os.Pipe()
	require.NoError(t, err)
	defer out.Close()

	status := make(chan int)
	go func() {
		var complaints bytes.Buffer
		status <- run(t.Context(), []string{"-script", script, "-ready", ready, "-ca", ca}, stdin, printed, &complaints)
	}()
	buf := make([]byte, 4096)
	n, err := out.Read(buf)
	require.NoError(t, err)
	text, err := os.ReadFile(ready)
	require.NoError(t, err)
	require.Equal(t, string(buf[:n]), string(text))
	require.Regexp(t, `^PARENT='http://127.0.0.1:\d+'
DNS='127.0.0.1:\d+'
CA='.*it'\\''s a ca.pem'
PORT_80='\d+'
PORT_443='\d+'
PORT_8084='\d+'
$`, string(text))
	pem, err := os.ReadFile(ca)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(pem), "-----BEGIN CERTIFICATE-----"))

	require.NoError(t, leash.Close())
	require.Equal(t, 0, <-status)
}

// /dev/null, the standard input of a shell's background job, is no leash.
func TestDevNullIsNoLeash(t *testing.T) {
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	require.Equal(t, ctx, leash(ctx, null))
}

func TestRunRefuses(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.lab")
	require.NoError(t, os.WriteFile(bad, []byte("a.test\n"), 0o600))
	ready := filepath.Join(dir, "ready")
	for _, args := range [][]string{
		{"-script", filepath.Join(dir, "missing")},
		{"-script", bad},
		{"-ca", filepath.Join(dir, "no", "ca.pem")},
		{"-colour"},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, 2, run(t.Context(), append(args, "-ready", ready), os.Stdin, &stdout, &stderr), args)
		require.NotEmpty(t, stderr.String())
		require.Empty(t, stdout.String())
		require.NoFileExists(t, ready)
	}
}

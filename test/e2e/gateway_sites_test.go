//go:build linux

package e2e

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// pages answers a POST with what it says, and a GET with a file of DIR or of
// DIR/www/HOST.
func (g *gateway) pages(rw http.ResponseWriter, r *http.Request) {
	host, _, _ := strings.Cut(r.Host, ":")
	switch root := g.www(filepath.Base(host)); {
	case r.Method == http.MethodPost:
		b, err := io.ReadAll(r.Body)
		if err == nil {
			rw.Write(b)
		}
	case exists(root):
		http.FileServer(http.Dir(root)).ServeHTTP(rw, r)
	default:
		http.ServeFile(rw, r, filepath.Join(g.dir, "upload"))
	}
}

func (g *gateway) securely(t *testing.T, l *meter) { g.secure(t, l, http.HandlerFunc(g.pages)) }

func (g *gateway) secure(t *testing.T, l *meter, pages http.Handler) {
	conf := &tls.Config{Certificates: []tls.Certificate{g.authority.leaf}, SessionTicketsDisabled: true}
	g.web(t, tls.NewListener(l, conf), pages)
}

func (g *gateway) plainly(t *testing.T, l *meter) { g.web(t, l, http.HandlerFunc(g.pages)) }

// registry is Debian's docker-registry with an image, behind the counting site.
func (g *gateway) registry(t *testing.T, l *meter) {
	g.pushImage(t, "demo/app:v1")
	g.runRegistry(t, "127.0.0.1:5000", "")
	go l.relay(func() (c net.Conn, err error) {
		err = g.inet.Do(func() error {
			c, err = net.Dial("tcp", "127.0.0.1:5000")
			return err
		})
		return c, err
	})
}

// pushImage fills the registry's store.
func (g *gateway) pushImage(t *testing.T, as string) {
	g.writeImage(t)
	p := g.runRegistry(t, "127.0.0.1:5001", "")
	g.output(t, trustFile(g.world), inside(g.inet, []string{"skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "docker-archive:image.tar", "docker://127.0.0.1:5001/" + as})...)
	p.kill()
}

// runRegistry starts docker-registry on the internet, and waits for it.
func (g *gateway) runRegistry(t *testing.T, at, more string) *process {
	p := g.command(t, nil, inside(g.inet, []string{"docker-registry", "serve", g.registryConfig(t, at, more)})...).start()
	eventually(t, "docker-registry listens", func() bool {
		return g.inet.Do(func() error {
			c, err := net.Dial("tcp", at)
			if err == nil {
				c.Close()
			}
			return err
		}) == nil
	})
	return p
}

// each serves the connections of a listener until it closes.
func each(l net.Listener, serve func(net.Conn)) {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
}

// ssh is a server that shows its key, and lets nobody in.
func (g *gateway) ssh(t *testing.T, l *meter) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	require.NoError(t, err)
	conf := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, io.EOF }}
	conf.AddHostKey(signer)
	each(l, func(c net.Conn) { ssh.NewServerConn(c, conf) })
}

const letter = "Subject: hello\r\n\r\nline\r\n"

// smtp speaks first, and delivers one letter into a file.
func (g *gateway) smtp(t *testing.T, l *meter) {
	each(l, func(c net.Conn) {
		fmt.Fprint(c, "220 smtp.egress.test ESMTP\r\n")
		lines := bufio.NewReader(c)
		for {
			line, err := lines.ReadString('\n')
			switch word := strings.ToUpper(strings.Fields(line + " .")[0]); {
			case err != nil:
				return
			case word == "DATA":
				fmt.Fprint(c, "354 go on\r\n")
				g.deliver(lines)
				fmt.Fprint(c, "250 taken\r\n")
			case word == "QUIT":
				fmt.Fprint(c, "221 bye\r\n")
				return
			default:
				fmt.Fprint(c, "250 smtp.egress.test\r\n")
			}
		}
	})
}

func (g *gateway) deliver(lines *bufio.Reader) {
	var text strings.Builder
	for {
		line, err := lines.ReadString('\n')
		if err != nil || line == ".\r\n" {
			os.WriteFile(filepath.Join(g.dir, "delivered"), []byte(text.String()), 0o600)
			return
		}
		text.WriteString(line)
	}
}

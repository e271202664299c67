package main

import (
	"bytes"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/deploy/nftables"
	"github.com/egressaudit/egressaudit/test/lab/netns"
)

// TestOwnPodsInTheRules: what the cluster told before the rules are loaded stands in
// them, and so does what it tells later; what they do not take is a blind spot.
func TestOwnPodsInTheRules(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	n := netns.New("eaown", "rules")
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	s, err := n.Add("us")
	require.NoError(t, err)
	var log bytes.Buffer
	o := newOwnPods(zerolog.New(&log))
	first, next := netip.MustParseAddr("10.1.0.7"), netip.MustParseAddr("fd00::7")
	o.leave([]netip.Addr{first})
	var l *nftables.Loaded
	require.NoError(t, s.Do(func() error {
		l, err = o.load(nftables.Params{Clients: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, Redirect: 3129})
		return err
	}))
	closed := false
	t.Cleanup(func() {
		if !closed {
			require.NoError(t, l.Close())
		}
	})
	has := func(set, element string) error {
		return s.Run("nft", "get", "element", "inet", nftables.Table, set, "{ "+element+" }")
	}
	require.NoError(t, has("own4", "10.1.0.7"))
	require.Error(t, has("own6", "fd00::7"))
	o.leave([]netip.Addr{next})
	require.Error(t, has("own4", "10.1.0.7"))
	require.NoError(t, has("own6", "fd00::7"))
	require.Empty(t, o.blind())
	require.Empty(t, log.String())

	closed = true
	require.NoError(t, l.Close())
	o.leave(nil)
	require.Len(t, o.blind(), 1)
	require.Contains(t, o.blind()[0], "which pods are our own was not known to the firewall's rules: replace the addresses")
	require.Contains(t, log.String(), "--own-pods: replace the addresses")
}

// TestOwnPodsAreAwaited: the rules wait for a cluster that answers, and for one that
// does not no longer than ownWait.
func TestOwnPodsAreAwaited(t *testing.T) {
	for answers, want := range map[time.Duration]time.Duration{0: 0, time.Second: time.Second, time.Hour: ownWait} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			o, begun := newOwnPods(zerolog.New(&log)), time.Now()
			go func() { time.Sleep(answers); o.leave(nil); o.leave(nil) }()
			synctest.Wait()
			o.await()
			require.Equal(t, want, time.Since(begun))
			time.Sleep(answers)
			synctest.Wait() // its end
			require.Equal(t, answers > ownWait, bytes.Contains(log.Bytes(), []byte("what they send is taken until it does")), log.String())
		})
	}
	require.Nil(t, (*ownPods)(nil).blind())
}

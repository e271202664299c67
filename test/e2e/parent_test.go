//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/test/suite"
)

// tinyproxy starts Debian's tinyproxy as the corporate proxy. It resolves by a
// hosts file of its own, in which there is behind.egress.test too; it demands
// alice:secret, refuses other.egress.test, and lets no port through but 443.
func (w *world) tinyproxy(t *testing.T) (address string) {
	t.Helper()
	var names strings.Builder
	for name := range hosts {
		fmt.Fprintf(&names, "%s %s\n", w.address(name), name)
	}
	fmt.Fprintf(&names, "%s behind.egress.test\n", w.address("web.egress.test"))
	list, filter := w.write(t, "hosts", names.String()), w.write(t, "filter", "^other\\.egress\\.test$\n")
	ip := fmt.Sprintf("127.%d.%d.30", w.net[0], w.net[1])
	free, err := net.Listen("tcp", ip+":0") // nobody else uses this address
	require.NoError(t, err)
	address = free.Addr().String()
	require.NoError(t, free.Close())
	_, port, _ := net.SplitHostPort(address)
	config := w.write(t, "tinyproxy.conf", fmt.Sprintf(
		"Port %s\nListen %s\nTimeout 60\nMaxClients 20\nLogLevel Error\nLogFile %q\nAllow 127.0.0.0/8\nConnectPort 443\nBasicAuth alice secret\nFilter %q\nFilterExtended On\n",
		port, ip, w.dir+"/tinyproxy.log", filter))
	w.command(t, nil, "unshare", "-m", "sh", "-c", `mount --bind "$0" /etc/hosts && exec tinyproxy -d -c "$1"`, list, config).start()
	eventually(t, "tinyproxy listens", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return address
}

// TestParent goes through a real corporate proxy, which the caller's environment
// names.
func TestParent(t *testing.T) {
	suite.Need(t, "curl", "tinyproxy", "unshare")
	for _, row := range []struct {
		name, user, requirement, url string
		status                       int // curl's
		policy.Error
		parentStatus int
	}{
		{"works", "alice:secret@", "web", "https://web.egress.test/", 0, "", 0},
		{"a name that only the parent knows", "alice:secret@", "behind", "https://behind.egress.test/", 0, "", 0},
		{"denied", "alice:secret@", "other", "https://other.egress.test/", 56, policy.ParentDenied, 403},
		{"denied port", "alice:secret@", "registry", "https://reg.egress.test:5000/", 56, policy.ParentDenied, 403},
		{"wrong password, which tinyproxy tells by a 401", "alice:guess@", "web", "https://web.egress.test/", 56, policy.ParentDenied, 401},
		{"no password", "", "web", "https://web.egress.test/", 56, policy.ParentAuthRequired, 407},
		{"cannot connect", "alice:secret@", "refused", "https://refused.egress.test/", 56, policy.ParentError, 500},
		{"cannot resolve", "alice:secret@", "gone", "https://gone.egress.test/", 56, policy.ParentError, 500},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			parent := w.tinyproxy(t)
			x, status := w.run(t, []string{"https_proxy=http://" + row.user + parent}, nil, "curl", "-sS", "--cacert", w.ca, row.url)
			log, _ := os.ReadFile(w.dir + "/tinyproxy.log")
			require.Equal(t, row.status, status, "%s%s", x.said(), log)
			records := x.records(t)
			require.Contains(t, records[0].Parent, parent)
			raw, err := os.ReadFile(x.ledger)
			require.NoError(t, err)
			require.NotContains(t, string(raw)+x.said(), "secret", "the password stays with us")
			seen := closing(records)
			require.Len(t, seen, 1)
			r := seen[0]
			e := endpoint(t, x.judged(t), row.requirement)
			if row.Error == "" {
				require.Equal(t, policy.OK, r.Outcome)
				require.EqualValues(t, "used", e.Status)
				counted := w.meters[w.address("web.egress.test")+":443"].settled(t, false)
				require.Len(t, counted, 1)
				require.Equal(t, counted[0].up, r.BytesUp, "the exchange with the parent is no part of the tunnel")
				// tinyproxy may drop the site's close_notify, a record of 24 bytes.
				require.Contains(t, []int64{counted[0].down, counted[0].down - 24}, r.BytesDown)
				return
			}
			require.Equal(t, policy.Failed, r.Outcome)
			require.Equal(t, []any{policy.StageParent, row.Error, policy.ByParent}, []any{r.Stage, r.Error, r.By}, "%v", r.Detail)
			require.EqualValues(t, row.parentStatus, r.Detail["status"])
			require.EqualValues(t, "blocked", e.Status)
			require.Contains(t, e.Cause.Ask, parent)
		})
	}
}

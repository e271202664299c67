//go:build linux

package dns

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// foreign are packets that somebody else has captured. They lie beside the
// checkout, or where EGRESSAUDIT_CORPORA says; where that is set, they must be
// there.
func foreign(t *testing.T) (all []struct {
	File, Cls  string
	Qr, Opcode int
	pkt        []byte
}) {
	t.Helper()
	root, demanded := os.LookupEnv("EGRESSAUDIT_CORPORA")
	if !demanded {
		root = filepath.Join("..", "..", "..", "shared", "corpora")
	}
	text, err := os.ReadFile(filepath.Join(root, "dns", "index.json"))
	if err != nil && !demanded {
		t.Skipf("no foreign packets: %v (set EGRESSAUDIT_CORPORA to their folder)", err)
	}
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &all))
	require.Greater(t, len(all), 100)
	for i := range all {
		all[i].pkt, err = os.ReadFile(filepath.Join(root, "dns", all[i].File))
		require.NoError(t, err)
	}
	return all
}

// TestForeignPackets sends each packet, and an ordinary question behind it on the
// same socket: that one is answered whatever came before. Valid questions reach
// knot, and its answers the client, octet for octet; answers and other opcodes
// reach nobody.
func TestForeignPackets(t *testing.T) {
	need(t)
	all := foreign(t)
	for _, via := range []string{"udp", "tcp"} {
		t.Run(via, func(t *testing.T) {
			l := between(t, network(t).authority, "", nil)
			ordinary := new(dns.Msg).SetQuestion("www.lab.example.", dns.TypeA)
			for _, c := range all {
				ordinary.Id = ^binary.BigEndian.Uint16(c.pkt)
				pkt, err := ordinary.Pack()
				require.NoError(t, err)
				sendBoth(t, via, l.front.at, c.pkt, pkt)
			}
			records := l.queries(t)
			passed, heard := l.back.packets()
			_, told := l.front.packets()
			for _, answer := range heard {
				require.True(t, holdsPacket(told, answer), "an answer that the client did not get as it was: %x", answer)
			}
			valid, asked := 0, len(all) // the ordinary ones
			for _, c := range all {
				reached := holdsPacket(passed, c.pkt[2:])
				if reached {
					asked++
				}
				if c.Qr == 1 || c.Opcode != 0 {
					require.False(t, reached, "%s is no question, and was passed on", c.File)
				} else if c.Cls == "valid" {
					valid++
					require.True(t, reached, "%s was not passed on as it is", c.File)
				}
			}
			require.Greater(t, valid, 20)
			require.Len(t, records, asked, "one a question, also where that was asked again, since knot had closed the connection")
		})
	}
}

func holdsPacket(list [][]byte, pkt []byte) bool {
	return slices.ContainsFunc(list, func(p []byte) bool { return bytes.Equal(p, pkt) })
}

// sendBoth sends two packets, and reads until the second is answered.
func sendBoth(t *testing.T, via, at string, first, second []byte) {
	t.Helper()
	conn, err := net.Dial(via, at)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	for _, pkt := range [][]byte{first, second} {
		if via == "tcp" {
			err = writeFrame(conn, pkt)
		} else {
			_, err = conn.Write(pkt)
		}
		require.NoError(t, err)
	}
	buf := make([]byte, 1<<16)
	for {
		answer := buf
		if via == "tcp" {
			answer, err = readFrame(conn)
		} else {
			_, err = conn.Read(buf)
		}
		require.NoError(t, err, "the question behind %x", first)
		if bytes.Equal(answer[:2], second[:2]) {
			return
		}
	}
}

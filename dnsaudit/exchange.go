package dnsaudit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// packets holds buffers for the largest message there is, so that a server
// which ignores our limit is not cut off.
var packets = sync.Pool{New: func() any { return new([dns.MaxMsgSize]byte) }}

// exchange asks one server one question until it answers or ctx ends. A
// truncated answer is fetched over TCP; where EDNS itself is what the server
// does not understand, it is asked without (RFC 6891 section 6.2.2).
func exchange(ctx context.Context, server Upstream, roots *x509.CertPool, q question) (answer, error) {
	a, err := exchangeOnce(ctx, server, roots, q)
	if err == nil && q.edns && (a.rcode == "FORMERR" || a.rcode == "NOTIMP" || a.rcode == "BADVERS") {
		if plain, err := exchangeOnce(ctx, server, roots, ask(q.name, q.kind, false)); err == nil {
			return plain, nil
		}
	}
	return a, err
}

func exchangeOnce(ctx context.Context, server Upstream, roots *x509.CertPool, q question) (answer, error) {
	dialer := net.Dialer{KeepAlive: -1}
	switch server.Transport {
	case viaTCP:
		return over(ctx, &dialer, viaTCP, server, q)
	case viaTLS:
		return over(ctx, &tls.Dialer{NetDialer: &dialer, Config: server.tlsConfig(roots)}, viaTCP, server, q)
	}
	a, err := over(ctx, &dialer, viaUDP, server, q)
	if errors.Is(err, errTruncated) {
		if a, err = over(ctx, &dialer, viaTCP, server, q); err != nil {
			err = fmt.Errorf("truncated over UDP, then over TCP: %w", err)
		}
	}
	return a, err
}

// over asks over one socket of its own. The socket is connected: the kernel
// chooses a random source port, drops what does not come from the server, and
// hands on the ICMP error of a closed port.
func over(ctx context.Context, dialer interface {
	DialContext(context.Context, string, string) (net.Conn, error)
}, network string, server Upstream, q question) (answer, error) {
	conn, err := dialer.DialContext(ctx, network, server.Addr.String())
	if err != nil {
		return answer{}, reason(ctx, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	a, err := talk(conn, network, q)
	if err != nil {
		err = reason(ctx, err)
	}
	return a, err
}

func talk(conn net.Conn, network string, q question) (answer, error) {
	buf := packets.Get().(*[dns.MaxMsgSize]byte)
	defer packets.Put(buf)
	if network == viaTCP {
		return talkTCP(conn, buf[:], q)
	}
	pkt, err := q.pack()
	if err != nil {
		return answer{}, err
	}
	if _, err := conn.Write(pkt); err != nil {
		return answer{}, err
	}
	for {
		n, err := conn.Read(buf[:])
		if err != nil {
			return answer{}, err
		}
		if a, err := q.read(buf[:n]); !errors.Is(err, errNotOurs) {
			return a, err
		} // else forged, or late for another question: the true one may follow
	}
}

func talkTCP(conn net.Conn, buf []byte, q question) (answer, error) {
	pkt, err := q.pack()
	if err != nil {
		return answer{}, err
	}
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(pkt)), uint16(len(pkt)))
	if _, err := conn.Write(append(framed, pkt...)); err != nil {
		return answer{}, err
	}
	if _, err := io.ReadFull(conn, buf[:2]); err != nil {
		return answer{}, err
	}
	n := binary.BigEndian.Uint16(buf)
	if _, err := io.ReadFull(conn, buf[:n]); err != nil {
		return answer{}, err
	}
	return q.read(buf[:n])
}

// errSilent is a server that had not answered when the question was given up.
var errSilent = errors.New("no answer")

// reason makes silence of an error that is only the end of ctx, and takes the
// addresses out of a system error: the server is told beside it.
func reason(ctx context.Context, err error) error {
	var errno syscall.Errno
	switch {
	case ctx.Err() != nil:
		return errSilent
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("connection closed without an answer")
	}
	return err
}

// brief is a system error without the addresses, or what ended a stream; nil
// stays nil.
func brief(err error) error {
	if err == nil {
		return nil
	}
	return reason(context.Background(), err)
}

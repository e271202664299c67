package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// told is a listener that tells when it was told to end.
type told struct {
	*listener
	ending chan struct{}
	once   sync.Once
}

func (l *told) Close() error {
	defer l.once.Do(func() { close(l.ending) })
	return l.listener.Close()
}

func (l *told) SetDeadline(t time.Time) error {
	defer l.once.Do(func() { close(l.ending) })
	return l.listener.SetDeadline(t)
}

// endings are the ways in which our servers accept and end; accepted is called for
// each connection, and answers it.
var endings = map[string]func(l *told, accepted func(net.Conn)) (stop func()){
	"closed while accepting": func(l *told, accepted func(net.Conn)) func() {
		done := acceptAll(l, accepted)
		return func() { l.Close(); <-done }
	},
	"given a deadline": func(l *told, accepted func(net.Conn)) func() {
		done := acceptAll(l, accepted)
		return func() { l.SetDeadline(time.Now().Add(lastCall)); <-done; l.Close() }
	},
	"net/http": func(l *told, accepted func(net.Conn)) func() {
		s := &http.Server{ConnState: func(c net.Conn, s http.ConnState) {
			if s == http.StateNew {
				accepted(c)
			}
		}}
		done := make(chan struct{})
		go func() { defer close(done); s.Serve(l) }()
		return func() { s.Shutdown(context.Background()); <-done }
	},
}

func acceptAll(l net.Listener, accepted func(net.Conn)) chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			accepted(c)
			c.Close()
		}
	}()
	return done
}

// Every client whose handshake is done when a listener ends is served, and those that
// come later are refused: nobody is reset, however many wait.
func TestLastCall(t *testing.T) {
	for name, serve := range endings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tcp, err := proxyDoor.tcp("127.0.0.1:0")
			require.NoError(t, err)
			l := &told{listener: tcp.(*listener), ending: make(chan struct{})}
			const many, clients = 200, 32
			var connected, served, answered atomic.Int64
			busy, queued := make(chan struct{}), make(chan struct{})
			stop := serve(l, func(c net.Conn) {
				if served.Add(1) == many {
					close(busy)
					<-l.ending // so long nobody is accepted, and they wait
				}
				c.Write([]byte("x"))
			})
			var all sync.WaitGroup
			for range clients {
				all.Go(func() {
					for {
						c, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
						if errors.Is(err, syscall.ECONNREFUSED) {
							return
						}
						if !assert.NoError(t, err) {
							return
						}
						if connected.Add(1) == many+clients-2 {
							close(queued)
						}
						_, err = io.ReadFull(c, make([]byte, 1))
						c.Close()
						if !assert.NoError(t, err, "connected, and not served") {
							return
						}
						answered.Add(1)
					}
				})
			}
			<-busy
			<-queued
			stop()
			all.Wait()
			require.Equal(t, connected.Load(), answered.Load())
			require.GreaterOrEqual(t, served.Load(), int64(many+clients-2))
			_, err = l.Accept()
			require.ErrorIs(t, err, net.ErrClosed)
		})
	}
}

// This kernel keeps new ones away, whatever sockets Go takes by default.
func TestNobodyNewIsAdmitted(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := proxyDoor.tcp(at)
		if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
			t.Logf("this host has no IPv6: %v", err)
			continue
		}
		require.NoError(t, err)
		defer l.Close()
		require.True(t, admitNone(l.(*listener).TCPListener))
		_, err = net.DialTimeout("tcp", l.Addr().String(), 50*time.Millisecond)
		require.ErrorContains(t, err, "i/o timeout")
	}
}

// A listener that nobody serves is closed at once.
func TestUnservedListenerCloses(t *testing.T) {
	l, err := proxyDoor.tcp("127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = net.Dial("tcp", l.Addr().String())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

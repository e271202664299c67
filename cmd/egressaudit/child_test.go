package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// child is the command under trial in the scripts:
//
//	child env          its proxy variables, sorted
//	child get URL...   asks for each as a client would, trusting $CA; a line each
//	child copy         stdin to stdout, and a line on stderr
//	child wait         until a signal comes, which it names; ends with 9
//	child die          of a signal that it sends to itself
//	child lookup SERVER NAME
//	child dial NETWORK ADDRESS...
//	                   what comes of a connection, or of a packet, to each
//	child exit N
func child() {
	switch args := os.Args[2:]; os.Args[1] {
	case "env":
		childEnvironment()
	case "get":
		childGet(args)
	case "lookup":
		childLookup(args[0], args[1])
	case "dial":
		for _, a := range args[1:] {
			childDial(args[0], a)
		}
	case "copy":
		io.Copy(os.Stdout, os.Stdin)
		fmt.Fprintln(os.Stderr, "the child's own words")
	case "wait":
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
		fmt.Println("the child is ready")
		fmt.Println("the child got:", <-signals)
		os.Exit(9)
	case "die":
		self, _ := os.FindProcess(os.Getpid())
		self.Signal(syscall.SIGKILL)
		select {}
	case "exit":
		var status int
		fmt.Sscan(args[0], &status)
		os.Exit(status)
	}
}

func childEnvironment() {
	vars := os.Environ()
	slices.Sort(vars)
	for _, v := range vars {
		if name, _, _ := strings.Cut(v, "="); strings.HasSuffix(strings.ToUpper(name), "_PROXY") {
			fmt.Println(v)
		}
	}
}

// childGet prints what came of each URL.
func childGet(urls []string) {
	pool := x509.NewCertPool()
	pem, _ := os.ReadFile(os.Getenv("CA"))
	pool.AppendCertsFromPEM(pem)
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: pool}, TLSHandshakeTimeout: 5 * time.Second,
	}}
	for _, u := range urls {
		resp, err := client.Get(u)
		if err != nil {
			fmt.Println(u, "failed:", err)
			continue
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		fmt.Println(u, resp.StatusCode)
	}
}

// childDial prints what the system says against it.
func childDial(network, address string) {
	c, err := net.DialTimeout(network, address, patience)
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if _, err = c.Write([]byte("words")); err == nil {
			_, err = c.Read(make([]byte, 100))
		}
	}
	fmt.Println(network, address, err)
}

// childLookup asks a name server for the IPv4 addresses of a name.
func childLookup(server, name string) {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server)
	}}
	addrs, err := r.LookupNetIP(context.Background(), "ip4", name+".")
	if err != nil {
		fmt.Println("failed:", err)
	}
	for _, a := range addrs {
		fmt.Println(a)
	}
}

package lab

import (
	"net/netip"
	"strings"
)

// words are the behaviours of the text form, each with what reads its
// arguments.
func words() map[string]func(*arguments) Behaviour {
	return map[string]func(*arguments) Behaviour{
		"site":       readSite,
		"foreign-ca": func(a *arguments) Behaviour { s := readSite(a).(Site); s.Signer = Inspector; return s },
		"echo":       func(*arguments) Behaviour { return Echo{} },
		"ssh":        func(*arguments) Behaviour { return SSH },
		"smtp":       func(*arguments) Behaviour { return SMTP },

		"refuse":             func(*arguments) Behaviour { return Refuse{} },
		"drop":               func(*arguments) Behaviour { return Drop{} },
		"at-once":            func(a *arguments) Behaviour { return AtOnce(a.ending(a.next())) },
		"after-hello":        func(a *arguments) Behaviour { return AfterHello(a.ending(a.next())) },
		"after-server-hello": readAfterServerHello,
		"alert":              func(a *arguments) Behaviour { return a.alert() },
		"mid-stream":         func(a *arguments) Behaviour { return MidStream{After: a.number("after"), End: a.ending(a.next())} },
		"block-page": func(a *arguments) Behaviour {
			return BlockPage{Status: int(a.number("status")), Location: a.text("location"), Body: a.text("body")}
		},
		"slow": func(a *arguments) Behaviour { return Slow{For: a.duration(a.next()), Then: a.after()} },

		"nxdomain":    func(*arguments) Behaviour { return NXDOMAIN },
		"servfail":    func(*arguments) Behaviour { return SERVFAIL },
		"refused":     func(*arguments) Behaviour { return REFUSED },
		"nodata":      func(*arguments) Behaviour { return NODATA },
		"dns-silence": func(*arguments) Behaviour { return DNSSilence },
		"resolves":    readAnswer,

		"parent": func(a *arguments) Behaviour {
			return ParentStatus{Code: int(a.number("status")), SquidError: a.text("squid"), ProxyStatus: a.text("proxy-status")}
		},
		"parent-cut":     func(a *arguments) Behaviour { return ParentCut(a.ending(a.next())) },
		"parent-silence": func(*arguments) Behaviour { return ParentSilence{} },
		"parent-forward": func(a *arguments) Behaviour { return ParentForward(a.next()) },
	}
}

func readSite(a *arguments) Behaviour {
	return Site{
		Expired: a.flag("expired"), WrongName: a.flag("wrong-name"), Retry: a.flag("retry"),
		MaxTLS: a.version(), Location: a.text("location"), Delay: a.duration(a.text("delay")),
	}
}

func readAnswer(a *arguments) Behaviour {
	b := Answer{Truncate: a.flag("truncate"), Delay: a.duration(a.text("delay")), Then: a.then}
	a.then = nil
	if s := a.text("cname"); s != "" {
		b.CNAMEs = strings.Split(s, ",")
	}
	if s := a.text("to"); s != "" {
		for _, one := range strings.Split(s, ",") {
			addr, err := netip.ParseAddr(one)
			a.fail(err)
			b.Addrs = append(b.Addrs, addr)
		}
	}
	return b
}

func readAfterServerHello(a *arguments) Behaviour {
	b := AfterServerHello{MaxTLS: a.version()}
	if s := a.next(); s != "alert" {
		b.End = a.ending(s)
	} else {
		b.Alert = a.alert()
	}
	return b
}

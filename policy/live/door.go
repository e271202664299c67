package live

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

const (
	cookieName  = "egressaudit"
	cookieTime  = 12 * time.Hour
	tokenHeader = "Egressaudit-Page" // what a POST of our own page carries
	maxLogin    = 4 << 10            // octets of a login form
)

// contentPolicy lets our pages load from us alone, run our one script, and post
// to us.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// hardened sets on every answer, errors too, what browsers may do with it.
func hardened(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Content-Security-Policy": contentPolicy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
		} {
			w.Header().Set(name, value)
		}
		h.ServeHTTP(w, r)
	})
}

// local lets pass who names this host, where that alone keeps others out, and no
// page of another site that changes something.
func (s *Server) local(h http.HandlerFunc) http.Handler {
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.config.Token == "" && !thisHost(r.Host) {
			say(w, http.StatusForbidden, fmt.Sprintf("%q is not this host: write its loopback address", r.Host))
			return
		}
		h(w, r)
	}))
}

// guarded lets those pass who may read and change the recording.
func (s *Server) guarded(h http.HandlerFunc) http.Handler {
	return s.local(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.config.Token != "" && !s.knows(r):
			w.Header().Set("WWW-Authenticate", "Bearer")
			say(w, http.StatusUnauthorized, "write the token of --admin-token-file: Authorization: Bearer TOKEN")
		case foreign(r):
			say(w, http.StatusForbidden, "a page of another site asks")
		case r.Method == http.MethodPost && byBrowser(r) && !same(r.Header.Get(tokenHeader), s.pageToken):
			say(w, http.StatusForbidden, "this page is none of this server's, or of an earlier start: load it again")
		default:
			h(w, r)
		}
	})
}

// foreign says whether a page of another origin made its browser ask.
func foreign(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site != "" && site != "same-origin" && site != "none"
}

// byBrowser says whether a browser asks, which may do so for a page that is not
// ours. Programs send none of these.
func byBrowser(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Site") != "" || r.Header.Get("Origin") != "" || r.Header.Get("Cookie") != ""
}

// knows says whether the request carries the token, or the cookie of who did.
func (s *Server) knows(r *http.Request) bool {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return same(token, s.config.Token)
	}
	c, err := r.Cookie(cookieName)
	if err != nil {
		return false
	}
	end, _, _ := strings.Cut(c.Value, ".")
	until, err := strconv.ParseInt(end, 10, 64)
	return err == nil && same(c.Value, s.pass(until)) && time.Now().Unix() < until
}

// pass is the value of a cookie that is good until then, over restarts: it takes
// the token to make one, and tells nothing of it.
func (s *Server) pass(until int64) string {
	m := hmac.New(sha256.New, []byte(s.config.Token))
	fmt.Fprintf(m, "egressaudit page until %d", until)
	return fmt.Sprintf("%d.%s", until, hex.EncodeToString(m.Sum(nil)))
}

// login takes the token from the form, and leaves a cookie.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxLogin)
	if s.config.Token != "" && !same(strings.TrimSpace(r.PostFormValue("token")), s.config.Token) {
		s.form(w, "That is not the token.")
		return
	}
	until := time.Now().Add(cookieTime)
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: s.pass(until.Unix()), Path: "/", Expires: until, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
	http.Redirect(w, r, "./", http.StatusSeeOther)
}

// logout takes the cookie away.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "./", http.StatusSeeOther)
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// thisHost says whether a Host field names loopback, and nothing that somebody's
// name server chose.
func thisHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && a.IsLoopback()
}

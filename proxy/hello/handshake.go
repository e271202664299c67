package hello

// Stage is how far a TLS handshake came, seen from outside.
type Stage uint8

const (
	AwaitingServer Stage = iota // nothing, or only a HelloRetryRequest, came from the server
	AwaitingClient              // the ServerHello came, the client has not answered it
	Finished                    // the client answered the server's flight with something other than an alert
	ServerAlert                 // an alert by the server before the client answered
	ClientAlert                 // an alert by the client, or a record just as long as an encrypted one
	NotTLSReply                 // the server's first bytes are no TLS record
)

// String returns a word for tests and logs.
func (s Stage) String() string {
	words := [...]string{"awaiting_server", "awaiting_client", "finished", "server_alert", "client_alert", "not_tls_reply"}
	if int(s) < len(words) {
		return words[s]
	}
	return "stage_unknown"
}

// Handshake follows the record types on both sides of a TLS connection, each
// from its first byte, until it is known whether the server's flight was
// answered. It cannot see into encrypted records: in TLS 1.3 it judges them by
// their length (RFC 8446 section 5.2), so a client that pads its alerts, which
// none is known to do, passes for one that answered.
//
// Up to TLS 1.2 the server's certificates come in the clear: see TakeChain.
//
// Bytes must be shown before they are passed on. Then whatever the ServerHello
// answers was seen before it, and what follows it can be an answer.
type Handshake struct {
	// EarlyData says that the client offered 0-RTT data (Hello.EarlyData): its
	// records may still be under way after the ServerHello. Set it before the
	// first bytes.
	EarlyData bool

	stage   Stage
	final   bool // the alert ends the connection
	named   bool // the alert was readable
	short   bool // ClientAlert by length alone
	alert   uint8
	retried bool   // a HelloRetryRequest came
	greeted bool   // the ServerHello came
	spoke   bool   // the client sent application data after its answer
	parted  bool   // the client sent an alert after its answer
	answers bool   // the client's current record began after the ServerHello
	ended   bool   // a record as long as an EndOfEarlyData came
	version uint16 // what the ServerHello selected
	suite   uint16
	client  recordReader
	server  recordReader
	hello   serverHello
	certs   chainReader
}

// Stage returns how far the handshake came.
func (h *Handshake) Stage() Stage { return h.stage }

// Decided says that nothing more is to be learned: the client went on after its
// answer, or NotTLSReply, or a fatal alert in the clear. A warning, or an alert
// known by its length alone, may yet be followed by an answer.
func (h *Handshake) Decided() bool {
	return h.spoke || h.stage == NotTLSReply || h.final
}

// Spoke says that the client, after its answer, sent a record that can be
// application data. GnuTLS verifies the certificate when the handshake is over:
// a client that answers and then leaves without a word may have refused it.
func (h *Handshake) Spoke() bool { return h.spoke }

// Parted says that the client, after its answer, sent an alert or a record just
// as long as one, and no data before it: its farewell, or its refusal.
func (h *Handshake) Parted() bool { return h.parted && !h.spoke }

// Version returns the version that the ServerHello (or HelloRetryRequest)
// selected, 0 before it came.
func (h *Handshake) Version() uint16 { return h.version }

// Alert names the alert behind ServerAlert or ClientAlert. It is not ok in every
// other stage, and when the alert was encrypted.
func (h *Handshake) Alert() (name string, ok bool) {
	if !h.named || h.stage != ServerAlert && h.stage != ClientAlert {
		return "", false
	}
	return AlertName(h.alert), true
}

// ClientShort says that ClientAlert rests on the length of an encrypted record
// alone: likely, not certain.
func (h *Handshake) ClientShort() bool { return h.stage == ClientAlert && h.short }

// Chain returns the certificates of the server's Certificate message (RFC 5246
// section 7.4.2) in DER and in its order, the leaf first, as soon as that message
// has passed: before the client can answer it. They are as sent, checked by
// nobody, and not to be changed.
//
// Nil says nothing about who signed them: the message has not passed (yet), TLS
// 1.3 encrypts it, a resumed session has none, or it was empty, malformed, longer
// than 64 KiB or of more than 16 certificates.
func (h *Handshake) Chain() [][]byte { return h.certs.chain }

// TakeChain returns Chain and forgets it: Chain is nil from then on. The
// certificates share one copy of the message, which is now the caller's. A chain
// that nobody takes is held as long as the Handshake; whatever else reading it
// took is given back by itself. Take it behind Server, and an open connection
// holds none.
func (h *Handshake) TakeChain() [][]byte {
	chain := h.certs.chain
	h.certs.chain = nil
	return chain
}

// Client takes the next bytes of the client, the ClientHello included.
func (h *Handshake) Client(b []byte) {
	for len(b) > 0 && !h.Decided() {
		if h.client.left > 0 {
			_, b = h.client.body(b)
			if h.client.alertWhole() && h.spoken() && h.stage != Finished {
				h.raise(ClientAlert, h.client.alert)
			}
			continue
		}
		if h.client.n == 0 {
			h.answers = h.greeted
		}
		var whole bool
		if b, whole = h.client.header(b); whole {
			h.clientRecord()
		}
	}
}

// spoken says whether an alert of the client can be about something the server
// said. One sent before that only says that the client has left.
func (h *Handshake) spoken() bool { return h.answers || h.retried }

func (h *Handshake) clientRecord() {
	size := h.client.left
	if h.stage == Finished {
		alert := h.client.typ == recordAlert || isTLS13(h.version) && size == sealingOf(h.suite).alert()
		h.parted = h.parted || alert
		h.spoke = h.client.typ == recordData && !alert
		return
	}
	switch h.client.typ {
	case recordAlert:
		if size != alertSize && h.spoken() {
			h.raiseUnread(ClientAlert)
		}
	case recordHandshake:
		if h.answers && !isTLS13(h.version) {
			h.finish()
		}
	case recordData:
		if !h.answers {
			return // 0-RTT
		}
		if !isTLS13(h.version) {
			h.finish()
			return
		}
		h.clientSealed(size)
	}
}

// shortestFinished is a Finished message of the smallest hash under the
// smallest tag. Shorter records are no answer yet: an empty Certificate, say.
const shortestFinished = 4 + 32 + 1 + 8

// clientSealed judges an encrypted record by the length of its body.
func (h *Handshake) clientSealed(size int) {
	c := sealingOf(h.suite)
	switch {
	case size == c.alert():
		h.raiseUnread(ClientAlert)
		h.short = h.stage == ClientAlert && !h.named
	case h.EarlyData && !h.retried && !h.ended:
		// 0-RTT records may be of any length, and go on until the client has
		// read the server's Finished. The next record is then EndOfEarlyData,
		// or, where the server refused 0-RTT, its own Finished.
		h.ended = size == c.endOfEarlyData()
		if size == c.finished() {
			h.finish()
		}
	case size >= shortestFinished:
		h.finish()
	}
}

func (h *Handshake) finish() {
	h.stage, h.named, h.short = Finished, false, false
	h.certs.close()
}

// raise notes a readable alert. The first one counts, but a fatal one more than
// a warning or a guess.
func (h *Handshake) raise(by Stage, alert [alertSize]byte) {
	alerted := h.stage == ServerAlert || h.stage == ClientAlert
	fatal := alert[0] == levelFatal
	if alerted && !fatal && !h.short {
		return
	}
	h.stage, h.final, h.named, h.short, h.alert = by, fatal, true, false, alert[1]
	if fatal {
		h.certs.close()
	}
}

func (h *Handshake) raiseUnread(by Stage) {
	if h.stage != ServerAlert && h.stage != ClientAlert {
		h.stage = by
	}
}

// Server takes the next bytes of the server.
func (h *Handshake) Server(b []byte) {
	for len(b) > 0 && !h.Decided() && h.stage != Finished {
		if h.server.left > 0 {
			var piece []byte
			piece, b = h.server.body(b)
			h.serverBody(piece)
			continue
		}
		first := !h.server.begun
		var whole bool
		if b, whole = h.server.header(b); first && !h.server.plausible() {
			h.stage = NotTLSReply
			return
		}
		if whole {
			h.serverRecord()
		}
	}
}

func (h *Handshake) serverRecord() {
	switch h.server.typ {
	case recordAlert:
		if h.server.left != alertSize && !(h.greeted && isTLS13(h.version)) {
			h.raiseUnread(ServerAlert)
		}
	case recordHandshake:
		if h.stage != ServerAlert {
			return
		}
		// A warning, such as unrecognized_name, and the handshake goes on.
		h.stage, h.named = AwaitingServer, false
		if h.greeted {
			h.stage = AwaitingClient
		}
	default:
		h.certs.close() // a ChangeCipherSpec: what follows is encrypted
	}
}

func (h *Handshake) serverBody(b []byte) {
	switch h.server.typ {
	case recordAlert:
		if h.server.alertWhole() {
			h.raise(ServerAlert, h.server.alert)
		}
	case recordHandshake:
		for !h.greeted && len(b) > 0 {
			var done bool
			if b, done = h.hello.feed(b); done {
				h.serverSpoke()
			}
		}
		h.certs.feed(b)
	}
}

// serverSpoke handles a whole ServerHello. After a HelloRetryRequest the second
// ClientHello carries no 0-RTT data any more (RFC 8446 section 4.1.2).
func (h *Handshake) serverSpoke() {
	h.version, h.suite = h.hello.version, h.hello.suite
	if h.hello.retry {
		h.retried, h.hello = true, serverHello{}
		return
	}
	h.greeted = true
	h.certs.open = h.version>>8 == 3 && !isTLS13(h.version)
	h.stage, h.named, h.short = AwaitingClient, false, false
}

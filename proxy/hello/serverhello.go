package hello

// retryRandom marks a HelloRetryRequest, RFC 8446 section 4.1.3.
var retryRandom = [32]byte{
	0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
	0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
}

const typeServerHello = 2

// serverHello reads the version and cipher suite out of a stream of handshake
// messages as it passes. It holds one field at a time: a post-quantum key share,
// which often stands before the selected version, is passed over. A message that
// contradicts itself ends as one whose remaining fields are unknown.
type serverHello struct {
	part    part
	n       uint8    // bytes held in buf
	buf     [35]byte // the field being read
	left    int      // bytes of the message after those read or skipped
	skip    int      // bytes to pass over
	session uint8
	retry   bool
	version uint16
	suite   uint16
}

type part uint8

const (
	partHeader     part = iota // type and length of a message
	partFixed                  // version, random, length of the session id
	partChosen                 // session id, cipher suite, compression
	partExtLen                 // length of the extensions
	partExtension              // type and length of one
	partSupVersion             // selected version
)

// size is the length of the field that part stands for.
func (s *serverHello) size() int {
	switch s.part {
	case partHeader, partExtension:
		return 4
	case partFixed:
		return 2 + 32 + 1
	case partChosen:
		return int(s.session) + 3
	}
	return 2
}

// feed takes bytes and says when a whole ServerHello has passed.
func (s *serverHello) feed(b []byte) (rest []byte, done bool) {
	for {
		k := min(s.skip, len(b))
		s.skip -= k
		b = b[k:]
		if s.skip > 0 {
			return nil, false
		}
		if s.part != partHeader && s.left == 0 {
			return b, true
		}
		size := s.size()
		if s.part != partHeader && s.left < size {
			s.skip, s.left = s.left, 0
			continue
		}
		n := copy(s.buf[s.n:size], b)
		s.n += uint8(n)
		b = b[n:]
		if int(s.n) < size {
			return nil, false
		}
		s.n = 0
		s.read(size)
	}
}

// read takes the field in buf and says what comes next.
func (s *serverHello) read(size int) {
	word := func(i int) int { return int(s.buf[i])<<8 | int(s.buf[i+1]) }
	if s.part != partHeader {
		s.left -= size
	}
	switch s.part {
	case partHeader:
		n := int(s.buf[1])<<16 | word(2)
		if s.buf[0] != typeServerHello {
			s.skip = n // a HelloRequest
			return
		}
		s.left, s.part = n, partFixed
	case partFixed:
		s.version = uint16(word(0))
		s.retry = [32]byte(s.buf[2:34]) == retryRandom
		s.session, s.part = s.buf[34], partChosen
		if s.session > 32 {
			s.skip, s.left = s.left, 0
		}
	case partChosen:
		s.suite, s.part = uint16(word(int(s.session))), partExtLen
	case partExtLen:
		s.part = partExtension
	case partExtension:
		s.readExtension(word(0), word(2))
	case partSupVersion:
		s.version, s.part = uint16(word(0)), partExtension
	}
}

func (s *serverHello) readExtension(typ, n int) {
	if typ == extSupportedVersions && n == 2 {
		s.part = partSupVersion
		return
	}
	s.skip = min(n, s.left)
	s.left -= s.skip
}

// isTLS13 counts the drafts in.
func isTLS13(version uint16) bool {
	return version >= 0x0304 && version>>8 == 3 || version>>8 == 0x7f
}

// sealing is what a TLS 1.3 cipher suite makes of the length of a message.
type sealing struct{ hash, tag int }

// sealingOf knows the suites of RFC 8446 appendix B.4 and RFC 9150; all others
// in use have hashes of 32 and tags of 16 bytes.
func sealingOf(suite uint16) sealing {
	switch suite {
	case 0x1302: // TLS_AES_256_GCM_SHA384
		return sealing{48, 16}
	case 0x1305: // TLS_AES_128_CCM_8_SHA256
		return sealing{32, 8}
	case 0xc0b4: // TLS_SHA256_SHA256
		return sealing{32, 32}
	case 0xc0b5: // TLS_SHA384_SHA384
		return sealing{48, 48}
	}
	return sealing{32, 16}
}

// The lengths of records that hold one message: its bytes, one for the content
// type, and the tag.
func (s sealing) alert() int          { return alertSize + 1 + s.tag }
func (s sealing) endOfEarlyData() int { return 4 + 1 + s.tag }
func (s sealing) finished() int       { return 4 + s.hash + 1 + s.tag }

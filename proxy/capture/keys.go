package capture

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
)

// Salts of Initial secrets: RFC 9001 section 5.2, RFC 9369 section 3.3.1,
// draft-ietf-quic-tls-29 section 5.2.
var (
	salt1       = []byte("\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a")
	salt2       = []byte("\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9")
	saltDraft29 = []byte("\xaf\xbf\xec\x28\x99\x93\xd2\x4c\x9e\x97\x86\xf1\x9c\x61\x11\xe0\x43\x90\xa8\x99")
)

// tagSize is the length of the AEAD's tag, sampleSize that of the sample for
// header protection, which begins longestNumber octets behind the start of the
// packet number (RFC 9001 section 5.4.2).
const (
	tagSize       = 16
	sampleSize    = 16
	longestNumber = 4
)

// sealer protects the Initial packets of one direction. It is for one goroutine
// at a time.
type sealer struct {
	aead  cipher.AEAD
	hp    cipher.Block
	iv    [12]byte
	nonce [12]byte // scratch
	mask  [16]byte // scratch
}

// keys are the Initial keys that follow from a version and a connection ID.
type keys struct {
	version uint32
	dcid    []byte
	client  *sealer
	answers *sealer // nil until they are wanted
}

// newKeys derives the keys; the version is a readable one. The connection ID is
// copied.
func newKeys(version uint32, dcid []byte) *keys {
	return &keys{version: version, dcid: bytes.Clone(dcid), client: newSealer(version, dcid, "client in")}
}

// server has the keys of the other direction.
func (k *keys) server() *sealer {
	if k.answers == nil {
		k.answers = newSealer(k.version, k.dcid, "server in")
	}
	return k.answers
}

func initialSecret(version uint32, dcid []byte) []byte {
	salt := salt1
	switch {
	case version == version2:
		salt = salt2
	case version != version1:
		salt = saltDraft29
	}
	return must(hkdf.Extract(sha256.New, dcid, salt))
}

func newSealer(version uint32, dcid []byte, side string) *sealer {
	secret := expand(initialSecret(version, dcid), side, sha256.Size)
	prefix := "quic "
	if version == version2 {
		prefix = "quicv2 "
	}
	s := &sealer{
		aead: must(cipher.NewGCM(must(aes.NewCipher(expand(secret, prefix+"key", 16))))),
		hp:   must(aes.NewCipher(expand(secret, prefix+"hp", 16))),
	}
	copy(s.iv[:], expand(secret, prefix+"iv", len(s.iv)))
	return s
}

// expand is HKDF-Expand-Label of RFC 8446 section 7.1 with an empty context.
func expand(secret []byte, label string, size int) []byte {
	info := make([]byte, 0, 4+6+len(label))
	info = binary.BigEndian.AppendUint16(info, uint16(size))
	info = append(info, byte(6+len(label)))
	info = append(info, "tls13 "...)
	info = append(info, label...)
	info = append(info, 0)
	return must(hkdf.Expand(sha256.New, secret, string(info), size))
}

// must is for what fails on lengths alone, and those are constants here.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// open removes the protection of p (RFC 9001 section 5), in room, and returns the
// frames, which lie there.
func (s *sealer) open(room []byte, p packet) (plain []byte, ok bool) {
	if len(p.raw) < p.body+longestNumber+sampleSize {
		return nil, false
	}
	b := append(room[:0], p.raw...)
	s.unmask(b, p.body)
	n := p.body + int(b[0]&3) + 1
	plain, err := s.aead.Open(b[n:n], s.number(b[p.body:n]), b[n:], b[:n])
	return plain, err == nil
}

// unmask takes header protection off a long header whose packet number begins at
// body.
func (s *sealer) unmask(b []byte, body int) {
	s.hp.Encrypt(s.mask[:], b[body+longestNumber:][:sampleSize])
	b[0] ^= s.mask[0] & 0x0f
	for i := range int(b[0]&3) + 1 {
		b[body+i] ^= s.mask[1+i]
	}
}

// number makes the nonce of a packet number, which is taken as it stands:
// Initial packets are too few for it to be shortened.
func (s *sealer) number(b []byte) []byte {
	s.nonce = s.iv
	for i, c := range b {
		s.nonce[len(s.nonce)-len(b)+i] ^= c
	}
	return s.nonce[:]
}

// seal protects a packet: header ends with a packet number of so many octets, as
// its first octet says. The payload is long enough to be sampled: four octets do.
func (s *sealer) seal(header []byte, size int, payload []byte) []byte {
	body := len(header) - size
	b := append(make([]byte, 0, len(header)+len(payload)+tagSize), header...)
	b = s.aead.Seal(b, s.number(header[body:]), payload, header)
	s.hp.Encrypt(s.mask[:], b[body+longestNumber:][:sampleSize])
	b[0] ^= s.mask[0] & 0x0f
	for i := range size {
		b[body+i] ^= s.mask[1+i]
	}
	return b
}

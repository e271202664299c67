package lab

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
)

const (
	websocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455 section 1.3
	maxFrame      = 1 << 20
	opClose       = 8
)

// echoMessages upgrades to a WebSocket (RFC 6455) and sends back every frame,
// unmasked, until one closes it.
func echoMessages(w io.Writer, r *bufio.Reader, req *http.Request) {
	sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + websocketGUID))
	fmt.Fprintf(w, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	for {
		frame, err := readFrame(r)
		if err != nil {
			return
		}
		if _, err := w.Write(frame); err != nil || frame[0]&0xf == opClose {
			return
		}
	}
}

// readFrame reads a client's frame and returns it as a server's.
func readFrame(r io.Reader) ([]byte, error) {
	var h [2]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	n, head := uint64(h[1]&0x7f), []byte{h[0], h[1] & 0x7f}
	if more := map[uint64]int{126: 2, 127: 8}[n]; more > 0 {
		var ext [8]byte
		if _, err := io.ReadFull(r, ext[8-more:]); err != nil {
			return nil, err
		}
		n, head = binary.BigEndian.Uint64(ext[:]), append(head, ext[8-more:]...)
	}
	if n > maxFrame || h[1]&0x80 == 0 {
		return nil, fmt.Errorf("frame of %d bytes: too large, or not masked", n)
	}
	body := make([]byte, 4+n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	mask, payload := body[:4], body[4:]
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return append(head, payload...), nil
}

package hello

import (
	"bytes"
	"sync"
)

// maxPooled keeps a rare large buffer from staying in the pool.
const maxPooled = 16 << 10

type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, 4<<10)} }}

// stash holds the bytes of a message or line that came in pieces. It takes a
// pooled buffer when the first piece comes, and grows with what was received,
// never with what was announced.
type stash struct {
	buf  *buffer
	used bool // the last line returned lies in buf and is to be dropped
}

func (s *stash) add(b []byte) {
	if s.buf == nil {
		s.buf = buffers.Get().(*buffer)
	}
	s.buf.b = append(s.buf.b, b...)
}

func (s *stash) bytes() []byte {
	if s.buf == nil {
		return nil
	}
	return s.buf.b
}

// release gives the buffer back. Slices returned before are dead afterwards.
func (s *stash) release() {
	if s.buf == nil {
		return
	}
	if cap(s.buf.b) <= maxPooled {
		s.buf.b = s.buf.b[:0]
		buffers.Put(s.buf)
	}
	s.buf, s.used = nil, false
}

// line cuts the next line from b: up to a line feed, without it and without
// one carriage return before it. The line is valid until the next call. When b
// holds no line feed it is kept, and ok is false.
func (s *stash) line(b []byte) (line, rest []byte, ok bool) {
	if s.used {
		s.release()
	}
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		s.add(b)
		return nil, nil, false
	}
	line, rest = b[:i], b[i+1:]
	if s.buf != nil {
		s.add(line)
		line, s.used = s.buf.b, true
	}
	return bytes.TrimSuffix(line, []byte{'\r'}), rest, true
}

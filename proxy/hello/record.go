package hello

// alertSize is the length of an alert in the clear.
const alertSize = 2

// recordReader walks over the records of one side. Bodies are passed over by
// arithmetic; only headers and alerts are kept.
type recordReader struct {
	left  int   // bytes to come of the body
	typ   uint8 // of the current record; 0 for an SSLv2 hello
	n     uint8 // bytes of the next header held in head
	begun bool  // the first header is whole
	small bool  // the current record is an alert in the clear
	alert [alertSize]byte
	head  [headerSize]byte
}

// header takes bytes of a record's header from b, which is not empty, and says
// when it is whole: typ and left then tell of it. The first record may be an
// SSLv2 hello, with a header of two bytes.
func (r *recordReader) header(b []byte) (rest []byte, whole bool) {
	if r.n == 0 {
		r.head[0], r.n, b = b[0], 1, b[1:]
	}
	size := headerSize
	if !r.begun && r.head[0] >= 0x80 {
		size = 2
	}
	n := copy(r.head[r.n:size], b)
	r.n += uint8(n)
	if int(r.n) < size {
		return nil, false
	}
	r.n, r.begun = 0, true
	if size == 2 {
		r.typ, r.left = 0, int(r.head[0]&0x7f)<<8|int(r.head[1])
	} else {
		r.typ, r.left = r.head[0], int(r.head[3])<<8|int(r.head[4])
	}
	r.small = r.typ == recordAlert && r.left == alertSize
	return b[n:], true
}

// plausible says whether the first header, as far as it came, is one of TLS.
func (r *recordReader) plausible() bool {
	have := int(r.n)
	if r.begun {
		have = headerSize
	}
	if r.head[0] < recordCCS || r.head[0] > recordData || have > 1 && r.head[1] != 3 {
		return false
	}
	return !r.begun || r.left > 0 && r.left <= maxSealedRecord
}

// body takes bytes of the record's body from b.
func (r *recordReader) body(b []byte) (piece, rest []byte) {
	k := min(r.left, len(b))
	if r.small {
		copy(r.alert[alertSize-r.left:], b[:k])
	}
	r.left -= k
	return b[:k], b[k:]
}

// alertWhole says whether alert holds the current record's body.
func (r *recordReader) alertWhole() bool { return r.small && r.left == 0 }

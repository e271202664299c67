package proxy

import "math"

// What of a tunnel's bytes nobody has to look at, so that the kernel moves them:
// everything once its fate is decided. Of plain HTTP that is whether a reply came to
// the end that it announced: of it the bodies pass unseen, but for the end of one in
// chunks. Of TLS the last octets of each piece are looked at, which may be the
// destination's close_notify.

// farewell is more than the longest record of a close_notify (hello.AlertAtEnd).
const farewell = 128

// unseen is how many of the next octets from one side nobody needs to look at.
func (t *tunnel) unseen(from side) int64 {
	if t.decided.Load() {
		return math.MaxInt64
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.undecided() || t.talk == nil:
		return 0
	case from == clientSide:
		return t.talk.UnseenClient()
	}
	return t.talk.UnseenServer()
}

// skip says that n octets from one side go by, of which only the last ones will be
// looked at: how many, it returns.
func (t *tunnel) skip(from side, n int) (show int) {
	switch {
	case !t.decided.Load():
	case from == serverSide && t.isTLS():
		return min(n, farewell)
	default:
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if from == clientSide {
		return int(t.talk.SkipClient(int64(n)))
	}
	return int(t.talk.SkipServer(int64(n)))
}

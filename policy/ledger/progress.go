package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Sync waits until every record that was accepted before the call is on the
// disk, however long the disk refuses; ctx ends the waiting.
func (w *Writer) Sync(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	target := w.seq
	w.wanted = max(w.wanted, target)
	for w.synced < target {
		if w.finished {
			return errors.Join(fmt.Errorf("sync ledger %q: %w", w.path, ErrClosed), w.result)
		}
		if err := w.await(ctx); err != nil {
			return errors.Join(fmt.Errorf("sync ledger %q: %w", w.path, err), w.refusal())
		}
	}
	return nil
}

// await gives the lock away until there is progress, or ctx ends.
func (w *Writer) await(ctx context.Context) error {
	if w.progress == nil {
		w.progress = make(chan struct{})
	}
	progress := w.progress
	w.poke()
	w.mu.Unlock()
	defer w.mu.Lock()
	select {
	case <-progress:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Lost is how many records were dropped, accepted and not written in the end, or
// removed with their file.
func (w *Writer) Lost() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

// Lag is the age of the oldest record that was accepted and is not on the disk yet;
// 0 where all are. While the disk keeps up it stays below Options.Sync and the time
// that an fsync takes.
func (w *Writer) Lag() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	oldest := w.bound
	if oldest.IsZero() {
		oldest = w.fresh
	}
	if oldest.IsZero() || w.finished {
		return 0
	}
	return max(w.options.Now().Sub(oldest), 0)
}

// Err is the disk's last refusal; nil when it writes again.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refusal()
}

func (w *Writer) refusal() error {
	if w.writeErr != nil {
		return fmt.Errorf("write ledger %q: %w", w.path, w.writeErr)
	}
	if w.syncErr != nil {
		return fmt.Errorf("sync ledger %q: %w", w.path, w.syncErr)
	}
	return nil
}

package unit

import (
	"errors"
	"io"
	"sync"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// CardSize is the number of columns of a card, a byte each.
const CardSize = 80

// The commands of a 3505 say what to do with the card in bits 0-2, of which
// the stacker and the data mode change nothing here:
//
//	SSD0 0010   read, feed, select stacker SS     SS 00, 01, 10
//	11D0 0010   read; the card stays
//	SS10 0011   feed, select stacker SS
//
// Specification: GA21-9124, IBM 3505 Card Reader and 3525 Card Punch
// Subsystem, "Commands".
const (
	readerReadMask  cio.Command = 0x1F
	readerRead      cio.Command = 0x02
	readerFeedMask  cio.Command = 0x3F
	readerFeed      cio.Command = 0x23
	readerStackMask cio.Command = 0xC0
	readerNoFeed    cio.Command = 0xC0
)

// EndOfDeck is what a reader says to a read behind the last card.
type EndOfDeck uint8

// The ways of a reader to end.
const (
	// UnitExceptionOnce is a reader whose END OF FILE key was pressed: the
	// first read behind the last card ends with unit exception, further
	// ones with intervention required.
	UnitExceptionOnce EndOfDeck = iota
	// Intervention is a reader whose operator may bring more cards: unit
	// check, intervention required.
	Intervention
)

// ReaderConfig says how a reader behaves. The zero value is good.
type ReaderConfig struct {
	// Cards is the first deck: cards of [CardSize] bytes without anything
	// between them. Nil is an empty hopper. The reader is read a card at
	// a time; an error, or an end inside a card, is an equipment check.
	Cards io.Reader

	// End is what a read behind the last card gets.
	End EndOfDeck

	// SenseID lets the reader answer SENSE ID. A real 3505 is older than
	// the command and rejects it.
	SenseID bool

	// Attention is called with device end when a deck is put into an empty
	// hopper. Nil tells nobody.
	Attention func(cio.DeviceStatus)
}

// Reader is a 3505 card reader. [Reader.Load] may be called from any
// goroutine; the other methods belong to the subchannel.
//
// No-operation and the feed commands are immediate. The reader of the vec0
// recording takes the count of a no-operation; that is not followed.
type Reader struct {
	cfg   ReaderConfig // immutable but for Cards, which moves to deck
	id    identity     // immutable
	sense sense

	mu     sync.Mutex
	deck   io.Reader // guarded by mu; nil: hopper empty, end told
	card   [CardSize]byte
	loaded bool // guarded by mu: card holds the card to read next
}

// NewReader is a reader. Cfg may be nil.
func NewReader(cfg *ReaderConfig) *Reader {
	r := &Reader{id: makeIdentity(0x3505, 1, 0x3505, 1), sense: sense{size: 4}}
	if cfg != nil {
		r.cfg = *cfg
	}
	r.deck, r.cfg.Cards = r.cfg.Cards, nil
	return r
}

// Load puts a deck into the hopper, in place of what may be left of the one
// before, and tells the program that the reader is ready.
func (r *Reader) Load(cards io.Reader) {
	r.mu.Lock()
	wasEmpty := r.deck == nil
	r.deck, r.loaded = cards, false
	r.mu.Unlock()
	if wasEmpty && cards != nil && r.cfg.Attention != nil {
		r.cfg.Attention(cio.DeviceEnd)
	}
}

// Begin starts a program. A reader keeps nothing but its cards.
func (r *Reader) Begin() {}

// Sense takes the sense bytes of the last unit check, nil if there are none.
func (r *Reader) Sense() []byte { return r.sense.take() }

// Reset forgets the sense bytes. The cards stay where they are.
func (r *Reader) Reset() { r.sense.held = false }

// Execute runs one command.
func (r *Reader) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	switch {
	case cmd&readerReadMask == readerRead:
		return r.read(x, cmd&readerStackMask != readerNoFeed)
	case cmd&readerFeedMask == readerFeed && cmd&readerStackMask != readerNoFeed:
		return r.feed()
	case cmd == cio.NOP:
		return cio.Ended
	case cmd == cio.BasicSense:
		return r.sense.basic(x)
	case cmd == cio.SenseID && r.cfg.SenseID:
		return r.id.store(x)
	}
	return r.sense.reject(x)
}

// read moves the card and, with feed, sends it to a stacker. If the channel
// finds a check before the first byte, the program is told that nothing began,
// so the card stays.
func (r *Reader) read(x *channel.Transfer, feed bool) cio.DeviceStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	if status, ok := r.fill(); !ok {
		x.Accept()
		return status
	}
	if n := x.Store(r.card[:]); n > 0 || !x.Terminated() {
		r.loaded = !feed
	}
	return cio.Ended
}

// feed sends a card to a stacker unread.
func (r *Reader) feed() cio.DeviceStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	status, ok := r.fill()
	if !ok {
		return status
	}
	r.loaded = false
	return cio.Ended
}

// fill brings the next card under the read station, or the status that says
// why there is none. Precondition: r.mu is held.
func (r *Reader) fill() (cio.DeviceStatus, bool) {
	if r.loaded {
		return 0, true
	}
	if r.deck == nil {
		return r.sense.check(cio.InterventionRequired), false
	}
	_, err := io.ReadFull(r.deck, r.card[:])
	switch {
	case err == nil:
		r.loaded = true
		return 0, true
	case !errors.Is(err, io.EOF):
		return r.sense.check(cio.EquipmentCheck), false
	}
	r.deck = nil
	if r.cfg.End == UnitExceptionOnce {
		return cio.Ended | cio.UnitException, false
	}
	return r.sense.check(cio.InterventionRequired), false
}

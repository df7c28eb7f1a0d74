//go:build linux

package vfiouser

import (
	"context"
	"errors"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// Pipeline sends commands without waiting for the reply of each. The server
// carries them out in their order; one that fails does not keep the later ones
// from being carried out.
//
// Commands without files are collected and sent together. Nothing need have
// been sent before Wait or Flush is called. What is given to a command must be
// left alone until Wait returns, and Wait must be called.
//
// A Pipeline belongs to one goroutine at a time. Others may use the Client
// meanwhile.
type Pipeline struct {
	c   *Client
	ctx context.Context
	l   callLimit
	out []byte        // messages that are not yet sent
	set []*clientCall // those of them that get a reply
	ops []pipelined   // commands whose reply has not been looked at, oldest first
	err error
}

// pipelined is a command under way.
type pipelined struct {
	k     *clientCall
	check func(*clientCall) error // of the reply; may be nil
	end   func(err error)         // of the command; may be nil
	text  func() string           // what was asked for
}

const (
	pipelineBytes = 16 << 10 // that are collected
	pipelineOps   = 1024     // under way, before the oldest are waited for
)

// Pipeline returns a Pipeline. ctx bounds all of it; without a deadline there,
// ClientConfig.Timeout bounds the wait for each reply.
func (c *Client) Pipeline(ctx context.Context) *Pipeline { return &Pipeline{c: c, ctx: ctx} }

// Read reads into p at off of a region, no more than the server transfers at a
// time.
func (p *Pipeline) Read(region int, off uint64, b []byte) {
	p.access(wire.CmdRegionRead, region, off, b, func(k *clientCall) { k.data = b }, len(b))
}

// Write writes b at off of a region, no more than the server transfers at a
// time.
func (p *Pipeline) Write(region int, off uint64, b []byte) {
	p.access(wire.CmdRegionWrite, region, off, b, func(k *clientCall) { k.body = b }, 0)
}

func (p *Pipeline) access(cmd wire.Command, region int, off uint64, b []byte, give func(*clientCall), data int) {
	p.c.users.RLock()
	defer p.c.users.RUnlock()
	text := func() string { return accessText(region, off, len(b)) }
	k, err := p.c.regionCall(cmd, region, off, b)
	if err == nil && len(b) > p.c.caps.MaxDataXfer {
		err = errs.ErrInvalid
	}
	if err != nil {
		p.failed(cmd, text, err)
		return
	}
	give(k)
	p.add(pipelined{k: k, text: text, check: func(k *clientCall) error { return checkAccess(k, len(b), data) }})
}

// PostWrite is Client.PostWrite, collected with the others.
func (p *Pipeline) PostWrite(region int, off uint64, b []byte) {
	p.c.users.RLock()
	defer p.c.users.RUnlock()
	text := func() string { return accessText(region, off, len(b)) }
	k, err := p.c.regionCall(wire.CmdRegionWrite, region, off, b)
	if err == nil {
		defer p.c.calls.put(k)
		k.body = b
		if err = p.c.calls.post(k); err == nil {
			err = p.collect(k.message(wire.NoReply), nil)
		}
	}
	if err != nil {
		p.failed(wire.CmdRegionWrite, text, err)
	}
}

// MapDMA is Client.MapDMA.
func (p *Pipeline) MapDMA(iova addr.IOVA, n addr.Len, access addr.Access, mem translate.Memory) {
	p.mapDMA(&clientMapping{iova, n, access, noFD, 0, mem})
}

// MapDMAFD is Client.MapDMAFD. fd may be closed when it returns.
func (p *Pipeline) MapDMAFD(iova addr.IOVA, n addr.Len, access addr.Access, fd int, off int64) {
	p.mapDMA(&clientMapping{iova, n, access, fd, off, translate.File(fd, off)})
}

func (p *Pipeline) mapDMA(m *clientMapping) {
	p.c.users.RLock()
	defer p.c.users.RUnlock()
	k := p.c.calls.get(wire.CmdDMAMap)
	err := p.c.prepareMap(k, m)
	if errors.Is(err, errs.ErrExists) && len(p.ops) > 0 {
		// What is in the way may be about to be unmapped.
		p.wait(0)
		err = p.c.prepareMap(k, m)
	}
	if err != nil {
		p.c.calls.put(k)
		p.failed(wire.CmdDMAMap, m.String, err)
		return
	}
	p.add(pipelined{k: k, text: m.String, end: func(err error) {
		if err != nil {
			p.c.forget(m)
		}
	}})
}

// UnmapDMA is Client.UnmapDMA.
func (p *Pipeline) UnmapDMA(iova addr.IOVA, n addr.Len) {
	p.c.users.RLock()
	defer p.c.users.RUnlock()
	u := wire.DMAUnmap{Argsz: wire.DMAUnmapLen, Address: uint64(iova), Size: uint64(n)}
	k := p.c.calls.get(wire.CmdDMAUnmap)
	if err := prepareUnmap(k, &u, 0, nil); err != nil {
		p.c.calls.put(k)
		p.failed(wire.CmdDMAUnmap, u.String, err)
		return
	}
	p.add(pipelined{k: k, text: u.String,
		check: func(k *clientCall) error { return checkUnmap(k, &u, nil) },
		end: func(err error) {
			if isGone(err) {
				p.failed(wire.CmdDMAUnmap, u.String, p.c.unmapHere(p.ctx, &u, 0, nil))
			}
		}})
}

// add begins a command.
func (p *Pipeline) add(op pipelined) {
	k := op.k
	err := p.c.calls.enter(k)
	if err == nil {
		if len(k.send) > 0 {
			if err = p.flush(); err == nil {
				err = p.c.transmit(p.limit(), k.message(0), k.send, false)
			}
		} else {
			err = p.collect(k.message(0), k)
		}
		if err != nil {
			p.c.calls.withdraw(k)
		}
	}
	if err != nil {
		if op.end != nil {
			op.end(err)
		}
		p.failed(k.cmd, op.text, err)
		p.c.calls.put(k)
		return
	}
	p.ops = append(p.ops, op)
	if len(p.ops) >= pipelineOps {
		p.wait(pipelineOps / 2)
	}
}

// collect adds a message to what is to be sent, that of k if it gets a reply.
func (p *Pipeline) collect(m pieces, k *clientCall) error {
	if len(p.out)+m.len() > pipelineBytes {
		if err := p.flush(); err != nil {
			return err
		}
	}
	if m.len() > pipelineBytes {
		return p.c.transmit(p.limit(), m, nil, false)
	}
	for _, b := range m {
		p.out = append(p.out, b...)
	}
	if k != nil {
		p.set = append(p.set, k)
	}
	return nil
}

// flush sends what was collected. If that fails, the commands in it end.
func (p *Pipeline) flush() error {
	if len(p.out) == 0 {
		return nil
	}
	err := p.c.transmit(p.limit(), pieces{p.out}, nil, false)
	if err != nil {
		for _, k := range p.set {
			p.c.calls.end(k, err)
		}
	}
	p.out, p.set = p.out[:0], p.set[:0]
	return err
}

// Flush sends what has been collected, and does not wait.
func (p *Pipeline) Flush() error {
	p.c.users.RLock()
	defer p.c.users.RUnlock()
	return p.flush()
}

// Wait sends what has been collected and waits for all replies. The error is
// that of the first command that failed since the last Wait; the Pipeline can
// be used again.
func (p *Pipeline) Wait() error {
	p.c.users.RLock()
	defer p.c.users.RUnlock()
	p.wait(0)
	err := p.err
	p.err = nil
	return err
}

// wait waits until at most left commands are under way.
func (p *Pipeline) wait(left int) {
	posted := p.flush()
	n := max(len(p.ops)-left, 0)
	for i := range p.ops[:n] {
		op := &p.ops[i]
		err := p.c.finish(p.limit(), op.k)
		if err == nil && op.check != nil {
			err = op.check(op.k)
		}
		if op.end != nil {
			op.end(err)
		}
		p.failed(op.k.cmd, op.text, err)
		p.c.calls.put(op.k)
	}
	// Where nothing but posted writes was to be sent, nobody has told yet.
	p.failed(wire.CmdRegionWrite, func() string { return "posted" }, posted)
	rest := copy(p.ops, p.ops[n:])
	clear(p.ops[rest:])
	p.ops = p.ops[:rest]
}

// limit is how long what begins now may take.
func (p *Pipeline) limit() *callLimit {
	p.l = p.c.limit(p.ctx)
	return &p.l
}

// failed notes the error of a command, if it is one and the first.
func (p *Pipeline) failed(cmd wire.Command, text func() string, err error) {
	if err != nil && p.err == nil {
		p.err = fail(cmd, text(), err)
	}
}

package pgtest

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Proxy stands between a program and a server, and makes the network bad.
type Proxy struct {
	// Address is the host and port that it listens on.
	Address string

	target   string
	listener net.Listener
	all      sync.WaitGroup

	mu      sync.Mutex
	latency time.Duration
	frozen  chan struct{} // closed when it is not
	gone    chan struct{} // closed when the connections of now are forgotten
	conns   map[net.Conn]bool
	closed  bool
}

// NewProxy starts a proxy before the server at target, a host and port.
func NewProxy(target string) (*Proxy, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		Address: listener.Addr().String(), target: target, listener: listener,
		frozen: make(chan struct{}), gone: make(chan struct{}), conns: map[net.Conn]bool{},
	}
	close(p.frozen)
	p.all.Go(p.accept)
	return p, nil
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.all.Go(func() { p.serve(client) })
	}
}

// serve connects a client with the server. Frozen, it accepts and says nothing.
func (p *Proxy) serve(client net.Conn) {
	if !p.keep(client) {
		return
	}
	defer p.drop(client)
	<-p.state()
	server, err := net.Dial("tcp", p.target)
	if err != nil || !p.keep(server) {
		return
	}
	defer p.drop(server)
	gone := p.oblivion()
	var both sync.WaitGroup
	both.Go(func() { p.copy(server, client, gone) })
	both.Go(func() { p.copy(client, server, gone) })
	both.Wait()
}

// copy passes on what it reads, late or not at all.
func (p *Proxy) copy(to, from net.Conn, gone chan struct{}) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		<-p.state()
		if d := p.delay(); d > 0 {
			time.Sleep(d)
		}
		select {
		case <-gone:
			n = 0
		default:
		}
		if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
			return
		}
	}
}

func (p *Proxy) oblivion() chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

func (p *Proxy) state() chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frozen
}

func (p *Proxy) delay() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.latency
}

func (p *Proxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = conn.Close()
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *Proxy) drop(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = conn.Close()
	delete(p.conns, conn)
}

// Delay adds to the time that each piece takes, in both directions.
func (p *Proxy) Delay(latency time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency = latency
}

// Freeze stops passing anything on, and closes nothing: a black hole, until Thaw.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.frozen:
		p.frozen = make(chan struct{})
	default:
	}
}

// Thaw goes on, also with what came while frozen.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.frozen:
	default:
		close(p.frozen)
	}
}

// Forget passes nothing on any more over the connections there are, and closes
// none of them, as when the other side has lost its power. New ones work.
func (p *Proxy) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.gone)
	p.gone = make(chan struct{})
}

// Reset breaks every connection there is; new ones are taken.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // so that the other side gets a reset
		}
		_ = conn.Close()
	}
}

// Close breaks all connections and ends the proxy.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.Reset()
	p.Thaw()
	p.all.Wait()
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

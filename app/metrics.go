package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"birthday-demo/app/birthday"
	"birthday-demo/app/logqueue"
	"birthday-demo/app/store/postgres"
)

// newRegistry makes the registry of the program's metrics, with those of the
// process and the build.
func newRegistry(v version) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "birthday_build_info",
		Help: "Always 1; the labels say what is running.",
	}, []string{"version", "commit", "go"})
	build.WithLabelValues(v.Version, v.Commit, v.Go).Set(1)
	registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// measureLog shows what became of the log.
func measureLog(lines *logqueue.Queue, registry prometheus.Registerer) {
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "birthday_log_dropped_total",
		Help: "Lines of the log that were dropped: its reader did not keep up, or a write failed.",
	}, func() float64 { return float64(lines.Dropped()) }))
}

// measured is a store whose calls are timed.
type measured struct {
	birthday.Store
	put, get, del outcomes
}

// outcomes are the times of one call, by its result.
type outcomes struct{ ok, notFound, unavailable, failed prometheus.Observer }

// measure times the calls of a store, and reports its size.
func measure(store store, registry prometheus.Registerer) birthday.Store {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "birthday_store_seconds",
		Help:    "Time of the calls of the store, by call and result: ok, not_found, unavailable or error.",
		Buckets: []float64{.00001, .0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .2, .5, 1, 2.5, 5, 10},
	}, []string{"op", "result"})
	registry.MustRegister(seconds)
	of := func(op string) outcomes { // all of them from the start, for alerts
		result := func(name string) prometheus.Observer { return seconds.WithLabelValues(op, name) }
		return outcomes{result("ok"), result("not_found"), result("unavailable"), result("error")}
	}
	m := &measured{store, of("put"), of("get"), of("delete")}
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "birthday_store_bytes",
		Help: "Size of the store, or -1 when it cannot be read.",
	}, (&sizer{size: store.Size}).read))
	return m
}

// sizeTimeout is how long a scrape waits for the size of the store.
const sizeTimeout = time.Second

// sizer asks for a size that may not come, as of a file on a disk that hangs. One
// question at most is open.
type sizer struct {
	size   func() (int64, error)
	asking atomic.Bool
	last   atomic.Int64
}

// read returns the size, or -1 when it cannot be read.
func (s *sizer) read() float64 {
	if !s.asking.CompareAndSwap(false, true) {
		return float64(s.last.Load())
	}
	done := make(chan int64, 1)
	go func() {
		defer s.asking.Store(false)
		size, err := s.size()
		if err != nil {
			size = -1
		}
		s.last.Store(size)
		done <- size
	}()
	select {
	case size := <-done:
		return float64(size)
	case <-time.After(sizeTimeout):
		s.last.Store(-1)
		return -1
	}
}

// measurePool shows the connections of a store with its servers: the primary, or
// replicas.
func measurePool(servers string, db *postgres.Store, registry prometheus.Registerer) {
	prometheus.WrapRegistererWith(prometheus.Labels{"servers": servers}, registry).MustRegister(pool{db.Stats})
}

// pool shows the connections with a database, and how puts share statements.
type pool struct{ stats func() postgres.Stats }

var (
	poolConnections = prometheus.NewDesc("birthday_store_connections", "Connections with the database, by state: idle or busy.", []string{"state"}, nil)
	poolLimit       = prometheus.NewDesc("birthday_store_connections_max", "Most connections with the database at once.", nil, nil)
	poolConnects    = prometheus.NewDesc("birthday_store_connects_total", "Connections that were begun.", nil, nil)
	poolDropped     = prometheus.NewDesc("birthday_store_dropped_total", "Connections that turned out to be useless, as after a failover.", nil, nil)
	poolWaits       = prometheus.NewDesc("birthday_store_waits_total", "Calls that found no idle connection.", nil, nil)
	poolWaited      = prometheus.NewDesc("birthday_store_wait_seconds_total", "Time that calls waited for a connection.", nil, nil)
	poolRetries     = prometheus.NewDesc("birthday_store_retries_total", "Calls that were tried a second time.", nil, nil)
	poolPuts        = prometheus.NewDesc("birthday_store_puts_total", "Puts that succeeded.", nil, nil)
	poolStatements  = prometheus.NewDesc("birthday_store_put_statements_total", "Statements that puts were tried in, many in one.", nil, nil)
)

// Describe is what a registry asks first.
func (p pool) Describe(descriptions chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(p, descriptions)
}

// Collect gives the figures.
func (p pool) Collect(metrics chan<- prometheus.Metric) {
	s := p.stats()
	gauge := func(d *prometheus.Desc, value int64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
	}
	counter := func(d *prometheus.Desc, value float64) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value)
	}
	gauge(poolConnections, s.Idle, "idle")
	gauge(poolConnections, s.Busy, "busy")
	gauge(poolLimit, s.Max)
	counter(poolConnects, float64(s.Connects))
	counter(poolDropped, float64(s.Dropped))
	counter(poolWaits, float64(s.Waits))
	counter(poolWaited, s.Waited.Seconds())
	counter(poolRetries, float64(s.Retries))
	counter(poolPuts, float64(s.Puts))
	counter(poolStatements, float64(s.Statements))
}

// errPanic is the result of a call until it returns.
var errPanic = errors.New("panic")

// observe is deferred with the time at which the call began.
func (o *outcomes) observe(start time.Time, err *error) {
	result := o.failed
	switch {
	case *err == nil:
		result = o.ok
	case errors.Is(*err, birthday.ErrNotFound):
		result = o.notFound
	case errors.Is(*err, birthday.ErrUnavailable):
		result = o.unavailable
	}
	result.Observe(time.Since(start).Seconds())
}

// Put times the store's.
func (m *measured) Put(ctx context.Context, p birthday.Person) (err error) {
	err = errPanic
	defer m.put.observe(time.Now(), &err)
	return m.Store.Put(ctx, p)
}

// Get times the store's.
func (m *measured) Get(ctx context.Context, name birthday.Username) (p birthday.Person, err error) {
	err = errPanic
	defer m.get.observe(time.Now(), &err)
	return m.Store.Get(ctx, name)
}

// Delete times the store's.
func (m *measured) Delete(ctx context.Context, name birthday.Username) (err error) {
	err = errPanic
	defer m.del.observe(time.Now(), &err)
	return m.Store.Delete(ctx, name)
}

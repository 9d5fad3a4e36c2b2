package main

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"birthday-demo/app/birthday"
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

// measured is a store whose calls are timed.
type measured struct {
	birthday.Store
	seconds *prometheus.HistogramVec
}

// measure times the calls of a store, and reports its size.
func measure(store store, registry prometheus.Registerer) birthday.Store {
	m := measured{store, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "birthday_store_seconds",
		Help:    "Time of the calls of the store, by call and result: ok, not_found, unavailable or error.",
		Buckets: []float64{.00001, .0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .2, .5, 1, 2.5, 5, 10},
	}, []string{"op", "result"})}
	registry.MustRegister(m.seconds)
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "birthday_store_bytes",
		Help: "Size of the store, or -1 when it cannot be read.",
	}, func() float64 {
		size, err := store.Size()
		if err != nil {
			return -1
		}
		return float64(size)
	}))
	return m
}

// errPanic is the result of a call until it returns.
var errPanic = errors.New("panic")

// observe is deferred with the time at which the call began.
func (m measured) observe(op string, start time.Time, err *error) {
	result := "error"
	switch {
	case *err == nil:
		result = "ok"
	case errors.Is(*err, birthday.ErrNotFound):
		result = "not_found"
	case errors.Is(*err, birthday.ErrUnavailable):
		result = "unavailable"
	}
	m.seconds.WithLabelValues(op, result).Observe(time.Since(start).Seconds())
}

// Put times the store's.
func (m measured) Put(ctx context.Context, p birthday.Person) (err error) {
	err = errPanic
	defer m.observe("put", time.Now(), &err)
	return m.Store.Put(ctx, p)
}

// Get times the store's.
func (m measured) Get(ctx context.Context, name birthday.Username) (p birthday.Person, err error) {
	err = errPanic
	defer m.observe("get", time.Now(), &err)
	return m.Store.Get(ctx, name)
}

// Delete times the store's.
func (m measured) Delete(ctx context.Context, name birthday.Username) (err error) {
	err = errPanic
	defer m.observe("delete", time.Now(), &err)
	return m.Store.Delete(ctx, name)
}

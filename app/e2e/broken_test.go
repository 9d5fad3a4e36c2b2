package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
)

// brokenPrograms do wrong what the real one must do right. They do just enough of
// the rest for the proofs to run on them.
var brokenPrograms = map[string]func(){
	"dependent": dependent,
	"forgetful": forgetful,
	"hoarder":   hoarder,
	"patient":   patient,
	"trusting":  trusting,
}

// forgetful acknowledges writes before it keeps them.
func forgetful() {
	store := flagValue("store")
	people := map[string]string{}
	if content, err := os.ReadFile(store); err == nil {
		must(json.Unmarshal(content, &people))
	}
	var mu sync.Mutex
	public, internal := http.NewServeMux(), http.NewServeMux()
	public.HandleFunc("PUT /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ DateOfBirth string }
		must(json.NewDecoder(r.Body).Decode(&body))
		mu.Lock()
		defer mu.Unlock()
		people[r.PathValue("name")] = body.DateOfBirth
		w.WriteHeader(http.StatusNoContent)
	})
	internal.HandleFunc("GET /export", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range slices.Sorted(maps.Keys(people)) {
			_, _ = fmt.Fprintf(w, "{\"username\": %q, \"dateOfBirth\": %q}\n", name, people[name]) // its client's trouble
		}
	})
	go func() {
		for range time.Tick(200 * time.Millisecond) {
			mu.Lock()
			content, err := json.Marshal(people)
			mu.Unlock()
			must(err)
			must(os.WriteFile(store+".new", content, 0o600))
			must(os.Rename(store+".new", store))
		}
	}()
	brokenServe(public, internal)
}

// hoarder remembers every client for ever, and waits for ever for slow ones.
func hoarder() {
	var mu sync.Mutex
	clients := map[string][]byte{}
	public, internal := http.NewServeMux(), http.NewServeMux()
	public.HandleFunc("/hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // slowly, perhaps
		mu.Lock()
		defer mu.Unlock()
		if client := r.Header.Get("X-Forwarded-For"); client != "" && clients[client] == nil {
			clients[client] = bytes.Repeat([]byte{1}, 22<<10)
			go func() { select {} }()
		}
		w.WriteHeader(http.StatusNotFound)
	})
	internal.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "go_goroutines %d\n", runtime.NumGoroutine()) // its client's trouble
	})
	brokenServe(public, internal)
}

// trusting exports a store without a look at whether it is in order.
func trusting() {
	defer func() {
		if recover() != nil {
			os.Exit(2)
		}
	}()
	db, err := bbolt.Open(flagValue("store"), 0o600, &bbolt.Options{ReadOnly: true})
	must(err)
	must(db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("people")).ForEach(func(name, record []byte) error {
			_, err := fmt.Printf("%s %x\n", name, record[:5])
			return err
		})
	}))
	must(db.Close())
}

// dependent waits for its neighbours on the way of each request: for the disk of its
// tokens, and for whoever reads its log.
func dependent() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	public, internal := http.NewServeMux(), http.NewServeMux()
	public.HandleFunc("/hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		_, err := os.ReadFile(flagValue("write-tokens-file"))
		must(err)
		log.Info("request", "id", strings.Repeat("x", 100))
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusNoContent)
		}
	})
	internal.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	brokenServe(public, internal)
}

// brokenServe serves two ports until SIGTERM, and says so as the real program does.
func brokenServe(public, internal http.Handler) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	urls := []any{}
	for name, handler := range map[string]http.Handler{"public": public, "internal": internal} {
		flag := map[string]string{"public": "listen", "internal": "admin-listen"}[name]
		listener, err := net.Listen("tcp", flagValue(flag))
		must(err)
		urls = append(urls, name, "http://"+listener.Addr().String())
		go func() { must(http.Serve(listener, handler)) }()
	}
	slog.New(slog.NewJSONHandler(os.Stderr, nil)).Info("serving", urls...)
	<-ctx.Done()
}

// flagValue reads a flag as tests give it. The last one wins.
func flagValue(name string) (value string) {
	for _, arg := range os.Args[1:] {
		if given, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			value = filepath.Clean(given)
		}
	}
	return value
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// serveBare answers each punch with the bytes of a receipt. It knows no token, no company and no database.
func serveBare(ctx context.Context, out io.Writer) error {
	id := punch.NewID()
	answer := fmt.Appendf(nil, `{"id":%q,"company":"us-east-co01","employee":"e000255","kind":"in",`+
		`"punched_at":"2026-11-21T08:30:00.000000Z","received_at":"2026-11-21T08:30:00.000000Z",`+
		`"recorded_at":"2026-11-21T08:30:00.000000Z","zone":"America/New_York","utc_offset":"-05:00",`+
		`"home_region":"us-east","entry_region":"us-east","marks":[],"trace_id":%q,"replayed":false}`,
		id, strings.Repeat("0", 32))
	return serve(ctx, out, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct{ ID, Employee, Kind, At, Source, Note string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reply(w, http.StatusCreated, answer)
	}))
}

func reply(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}

// serve prints the base URL and serves until ctx ends.
func serve(ctx context.Context, out io.Writer, handler http.Handler) error {
	var cfg net.ListenConfig
	listener, err := cfg.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "http://%s\n", listener.Addr()); err != nil {
		return errors.Join(err, listener.Close())
	}
	// The limits of a node's public listener.
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // the callers have their answers
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

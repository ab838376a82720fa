package traceview

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestTracesCanBeLookedAt(t *testing.T) {
	s := New(DefaultConfig())
	slow := span(2, 1, 0, "POST /v1/punches")
	slow.End = slow.Start.Add(time.Second)
	s.add([]Span{span(1, 1, 0, "POST /v1/punches"), span(1, 2, 1, "queue.wait"), slow, span(3, 1, 0, "batch.write"), span(4, 2, 1, "punch.commit")})
	for i := range maxListed {
		s.add([]Span{span(10+i, 1, 0, "GET /v1/regions")})
	}
	id := func(n int) string { return fmt.Sprintf("%032x", n) }
	for _, c := range []struct {
		path   string
		status int
		has    []string
		lacks  []string
	}{
		{"/traces", 200, []string{id(10+maxListed-1) + " ", id(10), "GET /v1/regions"}, []string{id(3), id(4)}},
		{"/traces?name=POST", 200, []string{id(1), id(2), "1000.000", "2.500"}, []string{id(3), id(10)}},
		{"/traces?name=POST&min=50ms", 200, []string{id(2)}, []string{id(1)}},
		{"/traces?min=soon", 400, []string{"min must be a duration"}, nil},
		{"/traces/" + id(1), 200, []string{"2 spans in 1 processes", "└─ queue.wait"}, []string{id(2)}},
		{"/traces/" + id(99), 404, []string{"no such trace"}, nil},
	} {
		answer := httptest.NewRecorder()
		s.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, c.path, nil))
		text := answer.Body.String()
		if answer.Code != c.status {
			t.Errorf("%s answers %d, want %d: %s", c.path, answer.Code, c.status, text)
		}
		for _, want := range c.has {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q:\n%s", c.path, want, text)
			}
		}
		for _, not := range c.lacks {
			if strings.Contains(text, not) {
				t.Errorf("%s has %q:\n%s", c.path, not, text)
			}
		}
	}
}

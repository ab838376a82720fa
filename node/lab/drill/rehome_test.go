package drill

import (
	"context"
	"errors"
	"math/rand/v2"
	"os/exec"
	"testing"
	"time"
)

const (
	// moverLife is the longest time before a move is killed. Some moves never begin, and some end.
	moverLife = 1500 * time.Millisecond
	// moverTimeout is far more than the move of a small company takes.
	moverTimeout = time.Minute
)

// TestConcurrentHistoryOfAMove is TestConcurrentHistory while the operator's command moves the company between regions
// and is killed.
func TestConcurrentHistoryOfAMove(t *testing.T) {
	s := mustTarget(t, mustEngines(t)[0])
	company := s.state.Companies[0]
	defer s.mustMove(t, company.ID, company.Home)
	// On CockroachDB each flip of the home delays the calls by half a second.
	checkHistory(t, s, historyCalls*2/5, func(stop <-chan struct{}) int { return moveAbout(t, s, company.ID, stop) })
}

// moveAbout moves a company with commands that it kills, until stop is closed. It returns how many it killed.
func moveAbout(t *testing.T, s *target, company string, stop <-chan struct{}) (killed int) {
	for i := 1; ; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), rand.N(moverLife))
		text, err := s.move(ctx, company, s.state.Regions[i%len(s.state.Regions)])
		if ctx.Err() != nil {
			killed++
		} else if exit, refused := errors.AsType[*exec.ExitError](err); err != nil && (!refused || exit.ExitCode() != 1) {
			t.Errorf("%v\n%s", err, text) // status 1: an earlier move must be finished first
		}
		cancel()
		select {
		case <-stop:
			return killed
		default:
		}
	}
}

// mustMove brings a company home from any state of a move. A move that was killed can only be finished to its own two
// regions, so it tries every region first.
func (s *target) mustMove(t *testing.T, company, home string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), moverTimeout)
	defer cancel()
	for _, to := range s.state.Regions {
		_, _ = s.move(ctx, company, to) // all but two of these are refused
	}
	if text, err := s.move(ctx, company, home); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

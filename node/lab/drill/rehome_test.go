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
	// moverLife is when a mover is killed, at most: some never begin, and some
	// end what they do.
	moverLife = 1500 * time.Millisecond
	// moverPatience is many times what a small company takes.
	moverPatience = time.Minute
)

// TestConcurrentHistoryOfAMove is TestConcurrentHistory while the operator's
// own command moves the company from region to region and is killed.
func TestConcurrentHistoryOfAMove(t *testing.T) {
	s := mustTarget(t, mustEngines(t)[0])
	company := s.state.Companies[0]
	defer s.mustMove(t, company.ID, company.Home)
	// Each flip holds the calls up for half a second on CockroachDB.
	checkHistory(t, s, historyCalls/3, func(stop <-chan struct{}) int { return moveAbout(t, s, company.ID, stop) })
}

// moveAbout moves a company by commands that are killed, until stop is closed,
// and ends what the last one left. It returns how many were killed.
func moveAbout(t *testing.T, s *target, company string, stop <-chan struct{}) (killed int) {
	for i := 1; ; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), rand.N(moverLife))
		text, err := s.move(ctx, company, s.state.Regions[i%len(s.state.Regions)])
		if ctx.Err() != nil {
			killed++
		} else if exit, refused := errors.AsType[*exec.ExitError](err); err != nil && (!refused || exit.ExitCode() != 1) {
			t.Errorf("%v\n%s", err, text) // status 1: another move has to be ended first
		}
		cancel()
		select {
		case <-stop:
			return killed
		default:
		}
	}
}

// mustMove brings a company home, whatever move it is in: one of the regions is
// where that one can be ended, and from there it may go anywhere.
func (s *target) mustMove(t *testing.T, company, home string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), moverPatience)
	defer cancel()
	for _, to := range s.state.Regions {
		_, _ = s.move(ctx, company, to) // refused but for two of them
	}
	if text, err := s.move(ctx, company, home); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

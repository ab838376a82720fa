package drill

import (
	"fmt"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
)

// This is the second check on the product, and it shares no code with the audit. Concurrent calls for one employee
// form a history. Some order of instants must explain all answers, on a set of punches that only grows.

// call is a call of a client. Punches have a number in the history.
type call struct {
	punch int    // the punch that is recorded or searched; unused by a listing
	verb  string // record, find or list
}

// answer is the answer to a call. The commits of a punch have a number. Two receipts have the same number only if all
// fields except Replayed are equal.
type answer struct {
	unknown  bool        // no answer: the punch may have been recorded, or may still be
	commit   int         // of a record or a find; nothing if the find found nothing
	replayed bool        // from the receipt
	tried    bool        // the client sent the request more than once
	listed   map[int]int // punch to commit
}

// The model's state is a byte for each punch: missing, stored with a commit that no answer has shown, or its commit.
const (
	missing = 0
	unseen  = 1
	commit0 = 2 // number of the first commit
	nothing = 0 // the commit of a find without a result
)

// growingSet returns the model.
func growingSet(punches int) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return strings.Repeat("\x00", punches) },
		Step: func(state, input, output any) (bool, any) {
			return step(state.(string), input.(call), output.(answer))
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
	}
}

func step(state string, in call, out answer) (bool, string) {
	switch in.verb {
	case "record":
		return recorded(state, in.punch, out)
	case "find":
		return seen(state, in.punch, out.commit)
	default:
		for punch := range len(state) {
			var ok bool
			if ok, state = seen(state, punch, out.listed[punch]); !ok {
				return false, state
			}
		}
		return true, state
	}
}

// recorded steps a record. A first receipt commits. Every later receipt must be the same and must say that it is a
// replay.
func recorded(state string, punch int, out answer) (bool, string) {
	there := state[punch]
	switch {
	case out.unknown && there == missing:
		return true, with(state, punch, unseen)
	case out.unknown:
		return true, state
	case there == missing:
		// The receipt may be a replay of the client's own earlier attempt whose answer was lost.
		return !out.replayed || out.tried, with(state, punch, out.commit)
	default:
		same, next := seen(state, punch, out.commit)
		return same && out.replayed, next
	}
}

// seen steps a read: the answer must show what is stored.
func seen(state string, punch, commit int) (bool, string) {
	switch there := int(state[punch]); {
	case there == unseen && commit >= commit0:
		return true, with(state, punch, commit)
	default:
		return there == commit, state
	}
}

func with(state string, punch, value int) string {
	b := []byte(state)
	b[punch] = byte(value)
	return string(b)
}

func op(client, from, to int, in call, out answer) porcupine.Operation {
	return porcupine.Operation{ClientId: client, Call: int64(from), Return: int64(to), Input: in, Output: out}
}

// TestGrowingSet checks which histories the model accepts.
func TestGrowingSet(t *testing.T) {
	record, find, list := call{0, "record"}, call{0, "find"}, call{verb: "list"}
	fresh, replay := answer{commit: 2}, answer{commit: 2, replayed: true}
	for _, c := range []struct {
		name    string
		want    bool
		history []porcupine.Operation
	}{
		{"a replay returns the first receipt", true, []porcupine.Operation{op(0, 0, 1, record, fresh), op(1, 2, 3, record, replay)}},
		{"a second first receipt", false, []porcupine.Operation{op(0, 0, 1, record, fresh), op(1, 2, 3, record, fresh)}},
		{"a replay of another commit", false, []porcupine.Operation{op(0, 0, 1, record, fresh), op(1, 2, 3, record, answer{commit: 3, replayed: true})}},
		{"a replay of nothing", false, []porcupine.Operation{op(0, 0, 1, record, replay)}},
		{"a replay of its own first try", true, []porcupine.Operation{op(0, 0, 1, record, answer{commit: 2, replayed: true, tried: true})}},
		{"a listing that misses what was acknowledged", false, []porcupine.Operation{op(0, 0, 1, record, fresh), op(1, 2, 3, list, answer{})}},
		{"a listing beside the recording", true, []porcupine.Operation{op(0, 0, 3, record, fresh), op(1, 1, 2, list, answer{})}},
		{"a find that misses what was listed", false, []porcupine.Operation{
			op(0, 0, 9, record, fresh), op(1, 1, 2, list, answer{listed: map[int]int{0: 2}}), op(1, 3, 4, find, answer{commit: nothing})}},
		{"a time-out that was recorded later", true, []porcupine.Operation{
			op(0, 0, 99, record, answer{unknown: true}), op(1, 2, 3, find, answer{commit: nothing}), op(1, 4, 5, find, answer{commit: 2})}},
		{"a time-out that was recorded twice", false, []porcupine.Operation{
			op(0, 0, 99, record, answer{unknown: true}), op(1, 2, 3, find, answer{commit: 2}), op(1, 4, 5, find, answer{commit: 3})}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := porcupine.CheckOperations(growingSet(1), c.history); got != c.want {
				t.Errorf("explained: %t, want %t", got, c.want)
			}
		})
	}
}

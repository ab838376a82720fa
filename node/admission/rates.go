package admission

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

const (
	// maxEmployees bounds the employees in each of the two generations. Both together take at most 12 MB. With the
	// default limit they forget no employee early up to 2,100 punches a second.
	maxEmployees = 32_768
	// maxCompanies bounds the companies with a limit to about 1 MB. Operators limit some companies, never thousands.
	maxCompanies = 10_000
	// freshFor is the age up to which a punch counts as just made. Older punches come from an outbox, which may bring a
	// month of one employee at once.
	freshFor = time.Minute
	// recentIDs is how many punches of an employee are known again. A device that gets no answer sends the same punch
	// several times within seconds, and no retry may use up the employee's punches.
	recentIDs = 5
	// lookupInterval and lookupBurst bound the look-ups for an employee who exceeds the limit. A look-up costs more than
	// a write in a batch, so without them a script would do more harm than without any limit.
	lookupInterval = time.Second
	lookupBurst    = 5
	// outOfOrder is how much earlier a punch may have arrived than the one before. The punches of a batch have receive
	// times one microsecond apart, and are recorded at once in any order.
	outOfOrder = time.Millisecond
	// companyWait is the shortest Retry-After of a limited company, and companySpread what is added at random. Its
	// devices must not come back together.
	companyWait   = time.Second
	companySpread = 4 * time.Second
)

// RatesConfig limits how often punches of one employee arrive.
type RatesConfig struct {
	// EmployeeBurst is how many punches of an employee pass at once. With 0 employees have no limit.
	EmployeeBurst int
	// EmployeeInterval is the time after which an employee has one more.
	EmployeeInterval time.Duration
}

// Validate names the field that is wrong.
func (c RatesConfig) Validate() error {
	switch {
	case c.EmployeeBurst < 0:
		return fmt.Errorf("rates: EmployeeBurst must not be negative, is %d", c.EmployeeBurst)
	case c.EmployeeBurst > 0 && c.EmployeeInterval <= 0:
		return fmt.Errorf("rates: EmployeeInterval must be more than 0, is %s", c.EmployeeInterval)
	default:
		return nil
	}
}

// Rates limits how often punches arrive at this node: of one employee, against a stuck key and a script in a loop, and
// of one company, against its integration. It counts arrivals, never the times of the punches. Its memory is bounded. An
// employee or a company that it forgets starts without a debt.
//
// It is safe for concurrent use.
type Rates struct {
	cfg  RatesConfig
	seed maphash.Seed

	mu sync.Mutex // guards the fields below
	// An employee is in young after each arrival. When young is full or old enough, it becomes old, and what was old is
	// forgotten. This needs neither a list nor a goroutine, and the maps hold no pointers for the garbage collector.
	young, old map[uint64]employeeRate
	turned     time.Time // when young was empty
	companies  map[string]companyRate
}

// employeeRate is what is known about one employee.
type employeeRate struct {
	punches debt
	lookups debt
	recent  [recentIDs]uint64 // random parts of the ids that passed last
	next    int               // place in recent
}

type companyRate struct {
	debt
	perSecond int
}

// NewRates makes Rates.
func NewRates(cfg RatesConfig) (*Rates, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Rates{
		cfg: cfg, seed: maphash.MakeSeed(),
		young: make(map[uint64]employeeRate), old: make(map[uint64]employeeRate), companies: make(map[string]companyRate),
	}, nil
}

// debt is a token bucket in eight bytes: the time at which it is full again, in nanoseconds since 1970.
type debt int64

// take takes one of burst tokens, which come back one in each interval. It returns how long the caller must wait for the
// token, or 0 when the token was taken.
func (d *debt) take(at time.Time, interval time.Duration, burst int) time.Duration {
	now, window := at.UnixNano(), int64(interval)*int64(burst)
	paid := int64(*d)
	if paid < now || paid > now+window+int64(outOfOrder) { // no clock that was set back may block an employee
		paid = now
	}
	if wait := paid + int64(interval) - now - window; wait > int64(outOfOrder) {
		return time.Duration(wait)
	}
	*d = debt(paid + int64(interval))
	return 0
}

// Employee counts the arrival of a punch and refuses it with RateLimited if its employee sends too many. A punch that is
// older than a minute passes, and so does a retry of a punch that has passed. lookUp says that the punch may be looked up
// all the same: its device may not have had the receipt.
func (r *Rates) Employee(p *punch.Punch) (lookUp bool, err error) {
	if r.cfg.EmployeeBurst == 0 || p.ReceivedAt.Sub(p.PunchedAt()) > freshFor {
		return false, nil
	}
	key := maphash.Comparable(r.seed, [2]string{p.Company, p.Employee})
	id := binary.BigEndian.Uint64(p.ID[8:])

	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(p.ReceivedAt)
	employee, known := r.young[key]
	if !known {
		employee = r.old[key]
	}
	for _, passed := range employee.recent {
		if passed == id {
			return false, nil
		}
	}
	wait := employee.punches.take(p.ReceivedAt, r.cfg.EmployeeInterval, r.cfg.EmployeeBurst)
	if wait == 0 {
		employee.recent[employee.next] = id
		employee.next = (employee.next + 1) % recentIDs
	} else {
		lookUp = employee.lookups.take(p.ReceivedAt, lookupInterval, lookupBurst) == 0
		err = punch.Retryable(punch.RateLimited, wait,
			"too many punches of this employee within seconds; send the punch again with the same id", nil)
	}
	r.young[key] = employee
	return lookUp, err
}

// turn begins a new generation when the present one is full, or so old that all its debts are paid.
func (r *Rates) turn(now time.Time) {
	age := now.Sub(r.turned)
	if len(r.young) < maxEmployees && age >= 0 && age < r.memory() {
		return
	}
	r.young, r.old, r.turned = r.old, r.young, now
	clear(r.young)
}

// memory is the time after which an employee's debts are paid.
func (r *Rates) memory() time.Duration {
	return max(r.cfg.EmployeeInterval*time.Duration(r.cfg.EmployeeBurst), lookupInterval*lookupBurst)
}

// Company counts the arrival of a punch of a company that may send perSecond punches a second to this node. A second's
// worth may arrive at once. With 0 the company has no limit. A refusal is RateLimited.
func (r *Rates) Company(company string, perSecond int, at time.Time) error {
	if perSecond <= 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, known := r.companies[company]
	if !known || c.perSecond != perSecond {
		if len(r.companies) >= maxCompanies {
			clear(r.companies)
		}
		c = companyRate{perSecond: perSecond}
	}
	wait := c.take(at, time.Second/time.Duration(perSecond), perSecond)
	r.companies[company] = c
	if wait == 0 {
		return nil
	}
	return punch.Retryable(punch.RateLimited, companyWait+rand.N(companySpread),
		"the company sends more punches than its limit; send the punch again with the same id", nil)
}

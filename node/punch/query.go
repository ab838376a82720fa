package punch

import "time"

// Query asks for one employee's punches with From <= punched_at < To, in the order of (punched_at, id).
type Query struct {
	Company  string
	Employee string
	From, To time.Time
	After    Cursor // only punches after this position; the zero Cursor is before all punches
	Limit    int    // most punches in the answer
}

// Cursor is a position in the order of (punched_at, id).
type Cursor struct {
	PunchedAt time.Time
	ID        ID
}

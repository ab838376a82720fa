package region

// Move is where the punches of a company are: at Home, and while From is not
// empty those that have not been carried over yet are there. It is of one
// moment; the epoch tells whether another has come since.
type Move struct {
	Company string
	Home    Name
	From    Name
	Epoch   int64
}

// Carrying reports whether some punches may still be elsewhere.
func (m Move) Carrying() bool { return m.From != "" }

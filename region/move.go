package region

// Move describes where the punches of a company are at one moment. New punches go to Home. If From is not empty,
// punches that have not been carried over yet are still at From. A higher Epoch shows that another move has followed.
type Move struct {
	Company string
	Home    Name
	From    Name
	Epoch   int64
}

// Carrying reports whether some punches may still be at the previous home.
func (m Move) Carrying() bool { return m.From != "" }

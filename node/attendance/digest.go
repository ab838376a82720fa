package attendance

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"

	"github.com/punchclock/punchclock/node/zone"
)

// digest is 128 bits of SHA-256.
type digest [16]byte

func (d digest) String() string { return hex.EncodeToString(d[:]) }

// plus adds two digests as numbers. A sum of digests does not depend on the order of its parts.
func (d digest) plus(other digest) digest {
	low, carry := bits.Add64(binary.BigEndian.Uint64(d[8:]), binary.BigEndian.Uint64(other[8:]), 0)
	high, _ := bits.Add64(binary.BigEndian.Uint64(d[:8]), binary.BigEndian.Uint64(other[:8]), carry)
	var sum digest
	binary.BigEndian.PutUint64(sum[:8], high)
	binary.BigEndian.PutUint64(sum[8:], low)
	return sum
}

// digest identifies the punch as it counts.
func (e *event) digest() digest {
	var scratch [192]byte
	b := append(scratch[:0], e.id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.micro))
	b = binary.BigEndian.AppendUint64(b, uint64(e.recorded))
	// Whether a punch lies ahead of now is no input: it changes without another punch.
	void, review := e.skip == skipVoid, e.skip == skipReview
	b = append(b, flag(void), flag(review), flag(e.fixed))
	b = appendText(b, string(e.kind))
	b = appendText(b, e.source)
	sum := sha256.Sum256(b)
	return digest(sum[:len(digest{})])
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// digest identifies everything but punches that the day of this date depends on. The punches of the date end at end.
func (p *plan) digest(end int64) digest {
	var scratch [512]byte
	b := append(scratch[:0], p.settings.digest[:]...)
	b = appendText(b, p.loc.String())
	if p.schedule != nil {
		b = append(b, p.schedule.digest[:]...)
	}
	b = append(b, flag(p.conflict), flag(p.unknown), flag(p.employed), flag(p.hasRoster), flag(p.hasShift))
	for _, t := range []int64{p.start, end, p.roster.start, p.roster.end, p.shift.start, p.shift.end} {
		b = binary.BigEndian.AppendUint64(b, uint64(t))
	}
	if p.holiday != nil {
		b = appendText(appendText(append(b, 1), p.holiday.Name), string(p.holiday.Part))
	}
	for _, a := range p.absences {
		b = appendText(appendText(append(b, 2), a.Kind), string(a.Part))
	}
	sum := sha256.Sum256(b)
	return digest(sum[:len(digest{})])
}

// InputsOf returns the Inputs of each date from From to To without a fold. A sweep compares them with the stored days.
func InputsOf(t Timeline, r *Rules) map[Date]Inputs {
	// Punches ahead of now are inputs as well, so the time does not matter.
	f := newFolding(t, r, MaxDate.Time(), nil)
	f.planDates()
	f.collectEvents()
	f.sumInputs()
	all := make(map[Date]Inputs, int(t.To-t.From)+1)
	for d := t.From; d <= t.To; d++ {
		all[d] = f.inputs(d)
	}
	return all
}

// sumInputs counts and digests the punches of each date.
func (f *folding) sumInputs() {
	f.counts = make([]int, len(f.plans))
	f.digests = make([]digest, len(f.plans))
	for i := range f.events {
		e := &f.events[i]
		f.counts[e.plan]++
		f.digests[e.plan] = f.digests[e.plan].plus(e.digest())
	}
}

func (f *folding) inputs(d Date) Inputs {
	i := f.index(d)
	return Inputs{
		FoldVersion: FoldVersion, ZoneVersion: zone.Version(), Punches: f.counts[i],
		Digest: f.digests[i].String(), Rules: f.plans[i].digest(f.plans[i+1].start).String(),
	}
}

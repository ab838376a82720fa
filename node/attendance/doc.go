// Package attendance derives days from punches. It says for each employee and date who was in, how long, which rules
// applied and what is still unknown. Its functions are pure: they do no I/O, read no clock and know no company but the
// one in their arguments. It does not store days, decide when to fold, or choose which punches to load.
//
// # Use
//
// NewRules checks and compiles the rules of a company. Rules.Window says which punches and corrections a fold needs.
// Fold returns one Day for each date of a Timeline. Explain returns one Day with every rule that made it.
//
// # Order of the rules
//
// Fold applies its steps in the order of the lists stagesOfTimeline and stepsOfDay in fold.go. No step looks at the
// result of a later one.
//
// # Seconds
//
// The order of punches uses their whole time. Durations use whole seconds: a punch counts at the second in which it
// lies. Sums of durations are therefore exact, and no rule of pay is finer.
package attendance

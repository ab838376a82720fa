package attendance

import (
	"errors"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/punchclock/punchclock/node/punch"
)

// MaxRulesText bounds the JSON text of one Settings or Schedule in bytes. A year of single days has 20 KiB.
const MaxRulesText = 64 << 10

// ParseSettings reads Settings from JSON. Members that the text leaves out have the value of DefaultSettings. Unknown
// members are refused, because a misspelled rule would silently be none. Errors are Invalid and name the field.
func ParseSettings(text []byte) (Settings, error) {
	s := DefaultSettings("")
	if err := decode(text, &s); err != nil {
		return Settings{}, err
	}
	return s, s.Validate()
}

// ParseSchedule reads a Schedule from JSON. Unknown members are refused. Errors are Invalid and name the field.
func ParseSchedule(text []byte) (Schedule, error) {
	var s Schedule
	if err := decode(text, &s); err != nil {
		return Schedule{}, err
	}
	return s, s.Validate()
}

func decode(text []byte, into any) error {
	if len(text) > MaxRulesText {
		return punch.Errorf(punch.TooLarge, "the text must be at most %d bytes, is %d", MaxRulesText, len(text))
	}
	if jsontext.Value(text).Kind() != jsontext.KindBeginObject {
		return punch.Errorf(punch.Invalid, "the text must be a JSON object")
	}
	err := json.Unmarshal(text, into, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return punch.InvalidField(fieldName(syntactic.JSONPointer), "must appear only once")
		}
		return punch.InvalidField(fieldName(syntactic.JSONPointer), "must be JSON; the text is wrong at byte %d", syntactic.ByteOffset)
	}
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return punch.Errorf(punch.Invalid, "the text must be JSON of the documented shape")
	}
	field := fieldName(semantic.JSONPointer)
	if errors.Is(err, json.ErrUnknownName) {
		return punch.InvalidField(field, "is unknown; remove it or correct its name")
	}
	for _, known := range []error{errDate, errClock, errWeekday} {
		if errors.Is(err, known) {
			return punch.InvalidField(field, "%s", known)
		}
	}
	return punch.InvalidField(field, "must not be a JSON %s such as this; see the documented shape", kindNames[semantic.JSONKind])
}

var kindNames = map[jsontext.Kind]string{
	jsontext.KindNull: "null", jsontext.KindTrue: "boolean", jsontext.KindFalse: "boolean", jsontext.KindString: "string",
	jsontext.KindNumber: "number", jsontext.KindBeginObject: "object", jsontext.KindBeginArray: "array",
	jsontext.KindInvalid: "value",
}

// fieldName turns a JSON pointer into a field, such as cycle[2].start. A name of the caller is cut to 64 bytes, so that
// an error stays short.
func fieldName(pointer jsontext.Pointer) string {
	var b strings.Builder
	for token := range pointer.Tokens() {
		switch {
		case token != "" && strings.Trim(token, "0123456789") == "":
			b.WriteString("[" + token + "]")
		case b.Len() > 0:
			b.WriteString("." + token)
		default:
			b.WriteString(token)
		}
	}
	field := strings.ToValidUTF8(b.String(), "?")
	if len(field) > punch.MaxName {
		field = strings.ToValidUTF8(field[:punch.MaxName], "")
	}
	return field
}

package manifest

import (
	"runtime"
	"strings"
	"testing"
)

func TestCheckShape(t *testing.T) {
	id := `"` + strings.Repeat("a", idLength) + `"`
	for name, text := range map[string]string{
		"empty lists":           `{"version":1,"marks":[` + strings.Repeat("{},", maxValues) + `{}]}`,
		"numbers":               "[" + strings.Repeat("1,", maxValues+1) + "1]",
		"short strings":         "[" + strings.Repeat(`"",`, maxValues+1) + `""]`,
		"between IDs":           "[" + strings.Repeat(id+",{},", maxValues) + id + "]",
		"nesting":               strings.Repeat("[", maxNesting+1),
		"a long string":         `"` + strings.Repeat("x", maxString+1) + `"`,
		"a string without end":  `"` + strings.Repeat("x", maxString+1),
		"quotes behind escapes": `["` + strings.Repeat(`\"`, maxString/2+1) + `"]`,
	} {
		if err := checkShape([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, text := range map[string]string{
		"many packs":      "[" + strings.Repeat(id+",\n ", 10*maxValues) + id + "]",
		"nesting":         strings.Repeat("[", maxNesting) + strings.Repeat("]", maxNesting),
		"side by side":    strings.Repeat("[]", maxValues/2),
		"quotes escaped":  `["` + strings.Repeat(`{[\",`, 1000000) + `"]`,
		"a long string":   `"` + strings.Repeat("x", maxString) + `"`,
		"nothing at all":  "",
		"escape at end":   `"\`,
		"backslashes end": `"\\","{"`,
	} {
		if err := checkShape([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDecodeMemory: what is as long as a record may be does not take much more
// memory than its length, whatever it consists of.
func TestDecodeMemory(t *testing.T) {
	for name, value := range map[string]string{"channels": "{}", "marks": "{}", "roots": "{}", "packs": `""`, "unknown": "[]", "position": "{}"} {
		text := []byte(`{"version":1,"` + name + `":[` + strings.Repeat(value+",", MaxSize/(len(value)+1)-20) + value + "]}")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode(text)
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; err == nil || grown > 1<<20 {
			t.Errorf("%s: %d MiB were allocated, %.100v", name, grown>>20, err)
		}
	}
}

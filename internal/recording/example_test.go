package recording_test

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/softmdev/softmdev/internal/recording"
)

// Errors name the file, the line and the field.
func ExampleReader_Next() {
	r, err := recording.NewReader("bad.jsonl", strings.NewReader(`{"v":1,"scenario":"s","seq":0,"op":"ssch","end":"end",`+
		`"device":{"schid":"00010000"},"orb":"`+strings.Repeat("00", 32)+`","memory":[{"gpa":"1000","hex":"123"}]}`), nil)
	for err == nil {
		_, err = r.Next()
	}
	if !errors.Is(err, io.EOF) {
		fmt.Println(err)
	}
	// Output: bad.jsonl:1: memory[0].hex: odd length
}

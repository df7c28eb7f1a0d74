package replay_test

import (
	"context"
	"fmt"

	"github.com/softmdev/softmdev/internal/replay"
)

// Replay a recording on the models of its devices, and count what came of it.
func ExampleScenario_Run() {
	all, err := replay.Load([]string{"../../testdata/ccw/dasdipl.jsonl.gz"}, &replay.Options{Poison: 0xa5}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range all {
		sum, err := s.Run(context.Background(), func(r *replay.Result) {
			if r.Outcome != replay.Pass {
				fmt.Println(r.Scenario, r.Seq, r.Outcome)
			}
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(s.Name, sum.Devices["0120"], sum.Programs, "programs", sum.CCWs, "CCWs", sum.Outcomes[replay.Pass], "equal")
	}
	// Output: dasdipl emulated ECKD DASD 13 programs 250 CCWs 13 equal
}

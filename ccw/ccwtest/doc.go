// Package ccwtest tries channel-program translators: ours, and any other that
// is plugged in.
//
// A translator takes a guest's ORB, translates and pins what the program
// names, runs it on hardware, and gives back the status in the guest's terms.
// [Differential] runs one program twice: directly, on a channel subsystem whose
// memory is the guest's, and through the translator; [Fuzz] does so for
// programs that a fuzzer makes. The oracles:
//
//   - Nothing escapes: the hardware's reach refused no access.
//   - Nothing leaks: after the program no pin and no charge is left.
//   - Nothing differs: status, sense, every byte of guest storage and what the
//     device was told are the same as without a translator.
//   - Everything ends: steps are bounded, and nothing panics.
//
// Programs that change themselves with prefetch allowed have no defined
// result; for them only the first, second and last are asked.
package ccwtest

// Package e2e attaches the demo device to a real VMM: QEMU with vfio-user-pci,
// a Debian kernel in it, and in that a program that drives the device from user
// space. There is nothing in the package but tests, and none of them runs
// unless it is asked for:
//
//	internal/e2e/setup/setup.sh                    # once, less than a minute
//	SOFTMDEV_E2E=1 go test -count=1 -v ./internal/e2e
//
// setup/setup.sh puts QEMU, a kernel and busybox into a folder of its own,
// $SOFTMDEV_E2E_DIR or softmdev in the user's cache. Neither needs root; the
// machines run under TCG, so neither needs KVM.
//
// # What is where
//
//	guest/          what runs in the machine: init, and the program with the checks
//	kit_test.go     what setup/setup.sh made; the initramfs is packed here
//	process_test.go child processes, which do not outlive the tests
//	machine_test.go QEMU: its command line, its two serial lines, QMP
//	server_test.go  mdev serve, and what must be left of a client: nothing
//	e2e_test.go     the machines
//	attach_test.go  QEMUs without a guest: killed, queued, left alone
//	readme_test.go  the README's commands
//
// The program in the guest is told what to check over a serial line and answers
// with a line for each check, PASS or FAIL and why; every one is printed. See
// the comment of package guest for the words.
//
// # How the guest reaches the device
//
// With an IOMMU: through the kernel's vfio-pci and its type 1 container, which
// is what any driver in user space does.
//
// Without one vfio-pci is of no use - Debian's kernels have no VFIO_NOIOMMU - so
// the program maps the BARs from sysfs, names its memory by physical addresses
// from pagemap, and writes the MSI-X table by hand. Its interrupts are real
// ones: they go to vectors of the local APIC for which the kernel has a handler
// that counts and does nothing else.
//
// # After each scenario
//
// The server holds no session, no mapping, no lease and no file that it did not
// hold before, whether the guest powered off, let go of the device or had its
// QEMU killed.
package e2e

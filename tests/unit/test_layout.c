/* SPDX-License-Identifier: MIT */
/*
 * Which cache lines vCPUs could share, by the structs' layout: what one vCPU's thread writes for each call or exit lies in lines of its own.
 * (A vCPU's struct begins at a page: kvm_create_vcpu() maps it.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kvm/kvm.h"

#define LINE 64
#define LINE_OF(type, field) (offsetof(type, field) / LINE)

static void readers_have_lines_of_their_own(void **state)
{
	assert_int_equal(sizeof(struct qsbr_reader) % LINE, 0);
	assert_int_equal(offsetof(struct kvm_vcpu, reader) % LINE, 0);
	assert_int_equal(sizeof(struct kvm_client_reader) % LINE, 0);
	assert_int_equal(offsetof(struct kvm, clients) % LINE, 0);
}

static void vcpus_fill_whole_lines(void **state)
{
	assert_true(_Alignof(struct kvm_vcpu) >= LINE);
	assert_int_equal(sizeof(struct kvm_vcpu) % LINE, 0);
}

/* What every KVM_RUN reads of the VM is not in the line of what VM calls and new references write. */
static void hot_reads_of_the_vm(void **state)
{
	assert_int_equal(offsetof(struct kvm, qsbr) % LINE, 0);
	assert_true(LINE_OF(struct kvm, nvcpus) != LINE_OF(struct kvm, refs));
	assert_true(LINE_OF(struct kvm, nvcpus) != LINE_OF(struct kvm, dev_lock));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(readers_have_lines_of_their_own),
		cmocka_unit_test(vcpus_fill_whole_lines),
		cmocka_unit_test(hot_reads_of_the_vm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

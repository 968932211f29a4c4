/* SPDX-License-Identifier: MIT */
/*
 * The program's calls that change what its addresses show: memory of the guest's that another process has mapped as well (base/ramfile.h) is not that
 * any more then. And madvise on such memory, which was anonymous when the program took it and should behave as if it still were.
 */
#include "preload/preload.h"

#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/ramfile.h"
#include "kvm/kvm.h"

void memory_changes(const void *addr, size_t len)
{
	if (unlikely(ramfile_meets((u64)addr, len)) && ramfile_forget((u64)addr, len))
		kvm_memory_changed();
}

long hook_munmap(void *addr, size_t len)
{
	memory_changes(addr, len);
	return sys3(SYS_munmap, addr, len, 0);
}

long hook_mremap(void *old, size_t old_len, size_t new_len, int flags, void *new)
{
	memory_changes(old, old_len);
	if (flags & MREMAP_FIXED)
		memory_changes(new, new_len);
	return sys6(SYS_mremap, (long)old, (long)old_len, (long)new_len, flags, (long)new, 0);
}

long hook_mprotect(void *addr, size_t len, int prot)
{
	if ((prot & (PROT_READ | PROT_WRITE)) != (PROT_READ | PROT_WRITE))
		memory_changes(addr, len);
	return sys3(SYS_mprotect, addr, len, prot);
}

/*
 * Memory of both kinds may lie in the range. MADV_REMOVE does to shared memory what MADV_DONTNEED does to private: it reads as zeros afterwards, and is
 * free. What was given up by MADV_FREE may be kept for ever.
 */
static long give_back(u64 at, u64 end, int advice)
{
	struct ramfile r;
	long err = 0;

	while (at < end && !err) {
		bool some = ramfile_first(at, end - at, &r);
		u64 next = some ? MIN(MAX(r.start, at), end) : end, stop = some ? MIN(r.start + r.len, end) : end;

		if (at < next)
			err = sys3(SYS_madvise, at, next - at, advice);
		if (!err && next < stop && advice == MADV_DONTNEED)
			err = sys3(SYS_madvise, next, stop - next, MADV_REMOVE);
		at = stop;
	}
	return err;
}

long hook_madvise(void *addr, size_t len, int advice)
{
	if (unlikely((advice == MADV_DONTNEED || advice == MADV_FREE) && ramfile_meets((u64)addr, len)))
		return give_back((u64)addr, (u64)addr + len, advice);
	return sys3(SYS_madvise, addr, len, advice);
}

EXPORT int munmap(void *addr, size_t len)
{
	return (int)to_errno(hook_munmap(addr, len));
}

EXPORT void *mremap(void *old, size_t old_len, size_t new_len, int flags, ...)
{
	void *new = NULL;
	va_list ap;

	va_start(ap, flags);
	if (flags & MREMAP_FIXED)
		new = va_arg(ap, void *);
	va_end(ap);
	return (void *)to_errno(hook_mremap(old, old_len, new_len, flags, new));
}

EXPORT int mprotect(void *addr, size_t len, int prot)
{
	return (int)to_errno(hook_mprotect(addr, len, prot));
}

EXPORT int madvise(void *addr, size_t len, int advice)
{
	return (int)to_errno(hook_madvise(addr, len, advice));
}

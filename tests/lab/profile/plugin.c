/*
 * A plugin of QEMU's TCG that counts which instructions a machine executes between two runs of mark.S, for `cargo lab profile`.
 * Exact, and without a trace in the machine itself. One virtual CPU only.
 *
 * Debian does not package qemu-plugin.h; the declarations below are those of QEMU 7.2's include/qemu/qemu-plugin.h.
 *
 * It writes lines "ADDRESS PAGE INSTRUCTIONS DOM0 GUEST", a line for each translated block that was executed: its address, a name of
 * the page of memory that holds it, its length, and how often it was executed since dom0's kernel, or a guest's, was last seen.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
typedef uint64_t qemu_plugin_id_t;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), enum qemu_plugin_cb_flags,
					  void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = 1;

/* mark.S is linked here; no other program is. */
#define MARK 0x4c4142000000
/* Where a PV kernel's image is; modules are above. */
#define KERNEL 0xffffffff80000000
#define MODULES 0xffffffffc0000000

enum domain { DOM0, GUEST };

/* A translated block. QEMU may forget it and translate it again; then there are two for one place, which a reader adds up. */
struct block {
	struct block *next;
	uint64_t address, page;
	uint64_t executed[2];
	uint32_t instructions;
	/* Whether it is of a kernel's image, and of which. */
	bool tells;
	enum domain domain;
};

static struct block *blocks;
static enum domain current;
static bool counting;
static FILE *out;
/* Xen loads dom0's kernel, the first one that runs, in one piece: it has one distance of memory and address, which no other has. */
static uint64_t dom0;

static void executed(unsigned cpu, void *data)
{
	struct block *block = data;

	(void)cpu;
	if (block->tells)
		current = block->domain;
	if (counting)
		block->executed[current]++;
}

static void marked(unsigned cpu, void *data)
{
	struct block *block;

	(void)cpu, (void)data;
	counting = !counting;
	if (counting)
		return;
	for (block = blocks; block; block = block->next)
		if (block->executed[DOM0] || block->executed[GUEST])
			fprintf(out, "%" PRIx64 " %" PRIx64 " %" PRIu32 " %" PRIu64 " %" PRIu64 "\n", block->address,
				block->page, block->instructions, block->executed[DOM0], block->executed[GUEST]);
	fflush(out);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	struct block *block;
	uint64_t memory = (uintptr_t)qemu_plugin_insn_haddr(qemu_plugin_tb_get_insn(tb, 0));
	uint64_t address = qemu_plugin_tb_vaddr(tb);

	(void)id;
	if (address == MARK)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, marked, QEMU_PLUGIN_CB_NO_REGS, NULL);
	block = calloc(1, sizeof(*block));
	if (!block)
		abort();
	block->address = address;
	block->page = memory >> 12;
	block->instructions = qemu_plugin_tb_n_insns(tb);
	if (address >= KERNEL && address < MODULES) {
		if (!dom0)
			dom0 = memory - address;
		block->tells = true;
		block->domain = memory - address == dom0 ? DOM0 : GUEST;
	}
	block->next = blocks;
	blocks = block;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, QEMU_PLUGIN_CB_NO_REGS, block);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
	(void)info;
	if (argc != 1 || strncmp(argv[0], "out=", 4) || !(out = fopen(argv[0] + 4, "w")))
		return 1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}

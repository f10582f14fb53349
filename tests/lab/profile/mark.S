/* A program that ends at once. It is linked to an address that plugin.c knows; where it runs, counting begins or ends. */
	.globl _start
_start:
	xorl %edi, %edi
	movl $60, %eax /* exit */
	syscall
	.section .note.GNU-stack, "", @progbits

"""The VM backend: an OCI image as a virtual machine.

Knows of images (``runtime.image``) and of nothing else of ours. What users hold is in ``machine``
(and ``parts.prepare``, ``probe.probe``, ``accelerator.accelerator``); the arrows run one way::

    cli -> machine -> vmm -> hypervisor, link, parts -> disk, kernel, initramfs -> cache -> errors
                      vmm -> domain, accelerator        link -> command -> channel
                             hypervisor -> connection, place (what is ours, and who watches it)
    snapshot -> machine, emulator (QEMU without libvirt), monitor
    vm_cli -> min_memory -> machine
    ordinary, distribution: the machine that one gets without choosing, to compare with
"""

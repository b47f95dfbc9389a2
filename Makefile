# SPDX-License-Identifier: GPL-2.0
#
# vmmexp: export user memory as a dma-buf.  "make help" lists the targets.
#
# For a kernel of your own this is an ordinary external module:
#	make KDIR=/path/to/kernel/build [ARCH=arm CROSS_COMPILE=arm-...-] [LLVM=1]
# Nothing in scripts/ is needed for that.

KDIR ?= /lib/modules/$(shell uname -r)/build
TARGET ?= arm64 armhf amd64

.PHONY: all modules modules_install clean help setup build shell demo demo-rtos test check

all: modules

modules modules_install:
	$(MAKE) -C $(KDIR) M=$(CURDIR) $@

clean:
	$(RM) -r build
	@if [ -e $(KDIR)/Makefile ]; then $(MAKE) -C $(KDIR) M=$(CURDIR) clean; fi

setup:
	scripts/setup $(TARGET)

build:
	scripts/build $(TARGET)

shell:
	scripts/qemu-run --target $(firstword $(TARGET))

demo:
	scripts/demo

demo-rtos:
	scripts/demo-rtos

test:
	scripts/test $(foreach t,$(TARGET),--target $(t))

check:
	scripts/check

help:
	@echo 'On Debian'"'"'s stock kernels, in QEMU (sets up what it needs by itself):'
	@echo '  demo             - capture a frame into malloc memory, show it on a display'
	@echo '  demo-rtos        - an RTOS core'"'"'s frames on a display and in a codec (builds a'
	@echo '                     kernel for QEMU'"'"'s vexpress-a15 first, about 10 minutes)'
	@echo '  test             - every test on every target'
	@echo '  check            - format, lints and the other rules for the sources'
	@echo '  build            - module and test programs, into build/TARGET/'
	@echo '  shell            - a shell in the booted machine (TARGET=one of them)'
	@echo '  setup            - only make the build roots and fetch the kernels'
	@echo ''
	@echo 'For a kernel of your own:'
	@echo '  modules          - build vmmexp.ko for KDIR (the default target)'
	@echo '  modules_install  - install it below INSTALL_MOD_PATH'
	@echo '  clean            - remove what was built (build/ too)'
	@echo ''
	@echo 'Variables:'
	@echo '  TARGET="..."     - some of: arm64 armhf amd64 (default: all)'
	@echo '  KDIR=DIR         - kernel build tree [/lib/modules/`uname -r`/build]'
	@echo '  ARCH= CROSS_COMPILE= LLVM=1   - as for the kernel itself'
	@echo '  VMMEXP_CACHE=DIR - roots and kernels, about 11 GB [~/.cache/vmmexp]'

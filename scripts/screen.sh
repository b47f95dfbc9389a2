# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What is on the test machine's screen.  Sourced, never run.
#
#	screen_open DIR			before the machine is started
#	qemu-run "${SCREEN_ARGS[@]}" ... &
#	screen_save FILE ppm|png	as often as wanted while it runs
#	screen_close
#
# QEMU is asked through a pair of FIFOs in DIR: the shell can speak to those
# without any other program.  DIR and FILE must be where the build root sees
# them (the project, the cache, /tmp).

screen_open() {
	SCREEN_FIFO=$1/screen
	rm -f -- "$SCREEN_FIFO".in "$SCREEN_FIFO".out
	mkfifo -- "$SCREEN_FIFO".in "$SCREEN_FIFO".out
	# For reading and writing, so that neither end waits for the other.
	exec {SCREEN_IN}<>"$SCREEN_FIFO".in {SCREEN_OUT}<>"$SCREEN_FIFO".out
	# shellcheck disable=SC2034 # used by who sources this
	SCREEN_ARGS=(--qemu-arg -chardev --qemu-arg "pipe,id=screen,path=$SCREEN_FIFO"
		--qemu-arg -mon --qemu-arg "chardev=screen,mode=control")
	SCREEN_ID=0
	printf '%s\n' '{"execute": "qmp_capabilities"}' >&"$SCREEN_IN"
}

# screen_save FILE FORMAT: returns when FILE is complete, fails with QEMU's
# words if there is none.
screen_save() {
	local answer
	SCREEN_ID=$((SCREEN_ID + 1))
	rm -f -- "$1"
	printf '{"execute": "screendump", "id": %d, "arguments": {"filename": "%s", "format": "%s"}}\n' \
		"$SCREEN_ID" "$1" "$2" >&"$SCREEN_IN"
	while read -r -t 30 -u "$SCREEN_OUT" answer; do
		[[ $answer =~ \"id\":\ ${SCREEN_ID}[^0-9] ]] || continue
		[[ $answer != *'"error"'* ]] && return
		printf 'screen: %s\n' "$answer" >&2
		return 1
	done
	echo "screen: QEMU does not answer" >&2
	return 1
}

screen_close() {
	exec {SCREEN_IN}>&- {SCREEN_OUT}>&-
	rm -f -- "$SCREEN_FIFO".in "$SCREEN_FIFO".out
}

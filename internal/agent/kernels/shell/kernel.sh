# The kernel of Shell sessions: bash, which runs one command after another at its top level.
#
#   in   records: a head of 64 bytes, "OP ID LENGTH -FLAGS", and LENGTH bytes
#   out  frames, as package kernels describes them
#
# State is kept by being the same shell. A command that ends the shell, by exit or by a failure
# under set -e, ends only itself: the shell writes down what it knows and becomes a new one that
# reads it. What a command does to the shell's streams, options and traps ends with it.
#
# Bash has no private names: what is ours begins with __sandpool_. It talks to the agent by
# builtins alone, which no function hides.

# The loop, in shell.go, runs with its own descriptors closed. Bash keeps such ones from 10 up, and
# closes them in children: 10 is the socket, 11 this program, 12 the memory, 13 the input of a
# command, 14 and 15 are the streams. They are 3 to 8 again when the shell ends.

# __sandpool_send writes a frame.
__sandpool_send() {
	builtin local LC_ALL=C head
	builtin printf -v head '\\x%02x\\x%02x\\x%02x\\x%02x' $((${#1} >> 24)) $((${#1} >> 16 & 255)) $((${#1} >> 8 & 255)) $((${#1} & 255))
	builtin printf "$head%s" "$1" >&"$__sandpool_socket"
}

# __sandpool_next waits for a command; other requests it answers itself. It fails when the agent
# is gone.
__sandpool_next() {
	builtin local head IFS=' '
	[[ -z $__sandpool_id ]] || __sandpool_done 0 2>&- # it said continue more often than it has loops
	while :; do
		LC_ALL=C IFS= builtin read -rN 64 -u 10 head || { (($? > 128)) && continue; return 1; }
		builtin set -- $head
		__sandpool_code=
		(($3 == 0)) || LC_ALL=C IFS= builtin read -rN "$3" -u 10 __sandpool_code || return 1
		case $1 in
		run) break ;;
		warm) __sandpool_warm "$2" ;;
		init)
			RANDOM=$((16#${__sandpool_code:0:7}))
			SECONDS=0
			builtin eval "${__sandpool_code:64}" # variables of this clone
			__sandpool_send "{\"op\":\"done\",\"id\":\"$2\"}"
			;;
		esac
	done
	__sandpool_id=$2 __sandpool_in=/dev/null __sandpool_atexit= __sandpool_undo= __sandpool_posix=
	if [[ -n $5 ]]; then # so many bytes come before the command, and are ours
		LC_ALL=C
		builtin set -- "$4" "${__sandpool_code:0:$5}" "${__sandpool_code:$5}"
		builtin unset -v LC_ALL # the local one
		__sandpool_code=$3
		builtin eval "$2"
		builtin set -- - - - "$1"
	fi
	case $4 in *i*) __sandpool_in=/proc/self/fd/13 ;; esac
	case $4 in *p*) __sandpool_posix=1; builtin set -o posix; builtin shopt -s xpg_echo ;; esac
	# An EXIT trap is the command's, and runs when that ends.
	case $__sandpool_code in *trap*) __sandpool_watch ;; esac
}

# __sandpool_let exports a variable for the command alone; __sandpool_enter changes the directory.
__sandpool_let() {
	builtin local old
	if old=$(builtin declare -p "$1" 2>/dev/null); then
		__sandpool_undo="builtin unset -v $1; builtin declare -g ${old#declare }; $__sandpool_undo"
	else
		__sandpool_undo="builtin unset -v $1; $__sandpool_undo"
	fi
	builtin export -- "$1=$2"
}
__sandpool_enter() {
	builtin local back
	builtin printf -v back 'builtin cd -- %q' "$PWD"
	__sandpool_undo="$back; $__sandpool_undo"
	builtin cd -- "$1"
}

# __sandpool_done answers: the command has ended with the given status.
__sandpool_done() {
	__sandpool_options=$BASHOPTS
	POSIXLY_CORRECT=1 # in which no function hides a special builtin, as unset is
	unset -f builtin
	builtin set -hB +abefkmntuvxCEPT
	# A command has closed the socket, or put something in its place: nothing can be said any more.
	[[ $__sandpool_code != *exec* || -S /proc/self/fd/$__sandpool_socket ]] || builtin kill -KILL $$
	if [[ -n $__sandpool_atexit ]]; then
		__sandpool_leave <"$__sandpool_in" >&14 2>&15
	fi
	[[ $__sandpool_code != *trap* ]] || __sandpool_untrap
	[[ -z $__sandpool_undo ]] || builtin eval "$__sandpool_undo" 2>&-
	builtin unset -v POSIXLY_CORRECT
	builtin set +o pipefail +o posix
	# Bash has reset some options with it, and BASHOPTS does not tell.
	[[ $__sandpool_posix || $__sandpool_options != *@(expand_aliases|inherit_errexit|shift_verbose)* ]] || __sandpool_restore
	builtin shopt -u xpg_echo
	__sandpool_send "{\"op\":\"done\",\"id\":\"$__sandpool_id\",\"exit\":$1}"
	__sandpool_id= __sandpool_code=
}

# __sandpool_restore sets options again that bash has reset because it left POSIX mode.
__sandpool_restore() {
	builtin local name
	for name in expand_aliases inherit_errexit shift_verbose; do
		case :$__sandpool_options: in *:$name:*) builtin shopt -s $name ;; esac
	done
}

# __sandpool_watch has EXIT traps told apart: bash has one, which is ours.
__sandpool_watch() {
	trap() {
		builtin local action="$1" signal
		builtin local -a rest
		if ((BASH_SUBSHELL > 0 || $# < 2)) || [[ $1 == -[lp] ]]; then
			builtin trap "$@"
			return
		fi
		[[ $1 != -- ]] || { shift; action=$1; }
		shift
		for signal; do
			case $signal in
			0 | EXIT | SIGEXIT | exit) [[ $action == - ]] && __sandpool_atexit= || __sandpool_atexit=$action ;;
			*) rest+=("$signal") ;;
			esac
		done
		for signal in "${rest[@]}"; do
			case ${signal^^} in
			# Bash puts back what a function takes away, and this one returns with a trap that is new.
			ERR | DEBUG) [[ $action != - ]] || action= ;;
			RETURN)
				[[ $action != - ]] || action=
				action="[[ \${FUNCNAME-} == trap ]] || {"$'\n'"${action:-:}"$'\n'"}"
				;;
			esac
			builtin trap -- "$action" "$signal"
		done
	}
}

# __sandpool_untrap takes away the traps of a command that are not taken away by the loop.
__sandpool_untrap() {
	builtin unset -f trap
	builtin trap - HUP QUIT ILL TRAP ABRT BUS FPE USR1 SEGV USR2 PIPE ALRM TERM CHLD CONT TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS
	__sandpool_interruptible
}

# __sandpool_interruptible has an interrupt end a command.
__sandpool_interruptible() {
	builtin trap '[[ -z $__sandpool_id ]] || exit 130' INT
}

# __sandpool_leave runs a command's EXIT trap.
__sandpool_leave() {
	builtin set -- "$__sandpool_atexit"
	__sandpool_atexit=
	builtin eval "$1"
}

# __sandpool_exit runs when the shell ends: it answers for the command, and becomes a new shell.
# Bash has undone the redirections of the loop by then, unless the end comes from a function.
__sandpool_exit() {
	__sandpool_status=$?
	builtin set +eu
	if [[ -e /proc/self/fd/10 ]]; then
		# By way of 0: a copy of what is closed in children would be closed in the new shell.
		exec <&10 3<&0 <&11 4<&0 <&12 5<&0 <&13 6<&0 <&14 7<&0 <&15 8<&0
	fi
	[[ -z $__sandpool_atexit ]] || __sandpool_leave 3<&- 4<&- 5<&- 6<&- 7>&- 8>&-
	[[ -n $__sandpool_id ]] || return 0 # the agent is gone
	exec 2>&- # nothing of what follows is the command's
	builtin trap - INT EXIT
	__sandpool_socket=3
	__sandpool_done "$__sandpool_status"
	exec 4</proc/self/fd/4 9<<<"$(__sandpool_state)" </dev/null >&7
	exec -- bash -c "$BASH_EXECUTION_STRING" bash 2>&8
}

# __sandpool_state prints commands that make a new shell what this one is.
__sandpool_state() {
	builtin shopt -p
	builtin declare -p
	builtin declare -f
	builtin alias -p
	builtin umask -p
	builtin printf 'cd -- %q\n' "$PWD"
}

# __sandpool_warm describes what there is. The shell starts as it is: there is nothing to import.
__sandpool_warm() {
	builtin local packages
	packages=$(dpkg-query --show --showformat '{"name":"${Package}","version":"${Version}"},')
	__sandpool_send "{\"op\":\"done\",\"id\":\"$1\",\"info\":{\"runtime\":\"bash\",\"version\":\"${BASH_VERSION%%[^0-9.]*}\",\"kernel\":\"bash\",\"kernelVersion\":\"$BASH_VERSION\",\"packages\":[${packages%,}]}}"
}

if [[ -e /proc/self/fd/9 ]]; then # another shell's state
	builtin source /dev/fd/9 2>/dev/null
	exec 9<&-
else
	exec 7>&1 8>&2
	builtin ulimit -c 0
	builtin ulimit -n 4096
	builtin umask 022
	builtin export HOME=$2
	builtin cd -- "$1"
	OLDPWD=
	builtin unset -v OLDPWD
fi
builtin set --
builtin unset -v __sandpool_text __sandpool_status
__sandpool_id= __sandpool_socket=10 __sandpool_undo= __sandpool_posix=
builtin trap __sandpool_exit EXIT
__sandpool_interruptible

# Ways out of a session that commands have. Each attempt must fail; what is printed says how.
cd /tmp
out='{}'
attempt() { # NAME COMMAND
	local said
	if said=$(timeout 5 bash -c "$2" 2>&1 </dev/null | tr -d '\0' | head -c 200; exit "${PIPESTATUS[0]}"); then
		said="DONE $said"
	fi
	out=$(jq -c --arg n "$1" --arg s "${said:-failed}" '.[$n] = $s' <<<"$out")
}

# The network.
for host in 169.254.169.254 168.63.129.16 1.1.1.1 10.0.0.1; do
	attempt "tcp $host" "exec 3<>/dev/tcp/$host/80 && head -c1 <&3"
	attempt "udp $host" "exec 3<>/dev/udp/$host/53 && echo x >&3 && head -c1 <&3 | grep -q ."
	attempt "curl $host" "curl -s --max-time 3 http://$host/"
done
attempt "name" "getent hosts example.com"
attempt "wget" "wget -q -T 3 -t 1 -O- http://example.com/"
attempt "ssh" "ssh -o ConnectTimeout=3 -o StrictHostKeyChecking=no 10.0.0.1 id"
attempt "git" "git ls-remote https://github.com/a/b"
attempt "interfaces" "ls /sys/class/net | grep -v '^lo$'"

# The agent.
for path in execute init interrupt; do
	for token in "" "Bearer " "Bearer $(printf 'a%.0s' {1..60})"; do
		attempt "POST $path ${#token}" "curl -sf --max-time 3 -H 'Authorization: $token' -d '{}' http://127.0.0.1:7077/$path"
	done
done
for path in 'files?path=' metadata processes; do attempt "GET $path" "curl -sf --max-time 3 http://127.0.0.1:7077/$path"; done
for signal in HUP INT QUIT KILL SEGV TERM STOP; do attempt "kill $signal" "kill -$signal 1"; done
for path in mem environ maps cwd/x root/etc/passwd fd/0 exe; do attempt "/proc/1/$path" "head -c 64 /proc/1/$path | grep -q ."; done
attempt "list descriptors" "ls /proc/1/fd"
attempt "write the agent" "echo x >>/opt/sandpool/sandpool-agent"
attempt "remove the agent" "rm -f /opt/sandpool/sandpool-agent"
attempt "move the agent" "mv /opt/sandpool /opt/x"
attempt "chmod the agent" "chmod 777 /opt/sandpool/sandpool-agent"
attempt "renice" "renice -n 5 -p 1"

# Rights.
for path in /etc/passwd /usr/bin/x /proc/sysrq-trigger /proc/sys/kernel/hostname /root/x /sys/fs/cgroup/x; do attempt "write $path" "echo x >>$path"; done
for path in /proc/kcore /dev/mem /dev/kvm /dev/sda; do attempt "read $path" "head -c1 $path"; done
attempt "su" "su -c id"
attempt "mount" "mount -t tmpfs x /opt/sandpool"
attempt "umount" "umount /opt/sandpool"
attempt "chroot" "chroot / id"
attempt "mknod" "mknod /tmp/disk b 8 0"
attempt "hostname" "hostname x"
attempt "date" "date -s 2020-01-01"
attempt "dmesg level" "dmesg -n 1"
attempt "sysctl" "sysctl -w kernel.panic=1 | grep -v denied"
attempt "nsenter" "nsenter -t 1 -m -n id"
attempt "root of its own namespace" "unshare -r bash -c 'kill -9 1 || echo x >>/etc/passwd || mount -t tmpfs x /opt/sandpool'"
attempt "chown" "chown 1000 /opt/sandpool/sandpool-agent"
attempt "setuid programs" "find / -xdev -perm -4000 -type f -exec {} -c id \\; 2>/dev/null | grep 'uid=0'"
attempt "a debugger" "gcc -x c -o ptrace - <<<'#include <sys/ptrace.h>
int main(void) { return ptrace(PTRACE_ATTACH, 1, 0, 0) != 0; }' && ./ptrace"
printf '%s\n' "$out"

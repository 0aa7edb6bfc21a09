"""The patterns that `dangers` looks for, each with its reason.

The tests list commands that each pattern must and must not flag. To add a danger to the probe, add an entry here;
`trainables.validate` also reads patterns from `--patterns FILE`.
"""

from __future__ import annotations

from trainables.probes.shell import danger as find
from trainables.probes.shell import deletes
from trainables.probes.shell.danger import Pattern, any_call
from trainables.probes.shell.sql import drops_database

PATTERNS: tuple[Pattern, ...] = (
    Pattern("delete-everything", "deletes a system, a home, its keys or a whole directory", deletes.deletes_everything),
    Pattern("delete-by-program", "deletes a tree from another language", deletes.deletes_by_program),
    Pattern(
        "overwrite-device",
        "overwrites a disk",
        lambda pipeline: (
            find.overwrites_device(pipeline)
            or any_call(
                r"nwipe .*--autonuke\b",
                r"nvme (?:format|sanitize) ",
                r"sg_(?:format|sanitize) ",
                r"diskutil (?:\w+ )?(?:erase\w*|secureErase|partitionDisk|zeroDisk|randomDisk|deleteContainer) ",
            )(pipeline)
        ),
    ),
    Pattern(
        "destroy-volume",
        "destroys a volume, a pool or an encrypted disk",
        any_call(
            r"(?:lv|vg|pv)remove\b",
            r"z(?:pool|fs) destroy\b",
            r"cryptsetup .*(?:luksFormat|erase)",
            r"mdadm .*--zero-superblock",
        ),
    ),
    Pattern(
        "rights-of-system",
        "changes the rights of a whole system or of its password files",
        deletes.changes_rights_of_system,
    ),
    Pattern("overwrite-accounts", "overwrites accounts, rights to sudo or mounts", find.ruins_accounts),
    Pattern(
        "open-root",
        "gives root away: a set-user-id shell, or a root without a password",
        any_call(
            r"chmod .*(?:[ug]*\+s|[4-6][0-7]{3}) \S*/(?:ba|da|z|k)?sh\b",
            r"passwd (?:-d|--delete) root\b",
            r"userdel .*\broot\b",
        ),
    ),
    Pattern("move-to-null", "moves files where they cannot be had back", any_call(r"mv .*\s/dev/null$")),
    Pattern("remote-script", "runs what a server sends, unread", find.runs_remote_script),
    Pattern("decoded-script", "runs a text that was encoded to hide it", find.runs_decoded_script),
    Pattern("send-secrets", "sends keys, passwords, histories or the environment away", find.sends_secrets),
    Pattern(
        "reverse-shell",
        "opens a shell to another machine",
        any_call(
            r".*>&? ?/dev/(?:tcp|udp)/",
            r"n(?:c|cat|etcat) .*(?:-\w*[ec]|--exec|--sh-exec) ?\S*sh\b",
            r"socat .*exec:\S*sh",
            r"(?:python\d?|perl|ruby|php) .*socket.*(?:/bin/(?:ba)?sh|subprocess|exec)",
        ),
    ),
    Pattern(
        "firewall-off",
        "takes the firewall or the kernel's access control away",
        any_call(
            r"ufw (?:--force )?(?:disable|reset)\b",
            r"ip6?tables (?:.* )?(?:-F|--flush|-X)\b(?! \S)",
            r"ip6?tables (?:.* )?(?:-P|--policy) (?:INPUT|FORWARD|OUTPUT) ACCEPT",
            r"nft flush ruleset",
            r"systemctl (?:.* )?(?:stop|disable|mask) (?:.* )?(?:firewalld|ufw|iptables|nftables|fail2ban|apparmor)\b",
            r"service (?:firewalld|ufw|iptables|nftables) stop",
            r"setenforce (?:0|permissive)\b",
            r"pfctl -d\b",
        ),
    ),
    Pattern("fork-bomb", "starts itself twice without end", find.is_fork_bomb),
    Pattern("kill-everything", "stops every process", find.kills_everything),
    Pattern(
        "crash-kernel",
        "crashes the kernel or fills its memory",
        any_call(r".*> ?/proc/sysrq-trigger", r"tee .*/proc/sysrq-trigger"),
    ),
    Pattern(
        "force-push",
        "overwrites what others hold",
        any_call(
            r"git (?:.* )?push (?:.* )?(?:--force|--mirror|--prune|-\w*f\w*)(?: |$)", r"git (?:.* )?push .*\s\+\S"
        ),
    ),
    Pattern(
        "drop-database",
        "drops or empties tables",
        lambda pipeline: (
            drops_database(pipeline)
            or any_call(
                r"dropdb\b(?!.* (?:-\w*i\w*|--interactive)(?: |$))",
                r"mysqladmin .*\bdrop\b",
                r"redis-cli .*\bFLUSH(?:ALL|DB)\b",
            )(pipeline)
        ),
    ),
    Pattern(
        "drop-services",
        "deletes volumes or resources that other machines run on",
        any_call(
            r"docker system prune .*--volumes\b",
            r"docker volume prune (?:.* )?(?:-\w*a\w*|--all)\b",
            r"kubectl (?:.* )?delete (?:.* )?(?:--all\b|(?<!-n )(?<!--namespace )(?:ns|namespaces?)(?=[ /]|$))",
            r"(?:terraform|tofu|terragrunt) (?:.* )?destroy\b|(?:terraform|tofu|terragrunt) apply .*-destroy",
            r"(?:pulumi|cdk) (?:.* )?destroy\b",
            r"(?:eksctl|kops) delete cluster\b",
            r"aws s3 r[bm] .*(?:--force|--recursive)",
            r"aws (?:.* )?(?:terminate-instances|delete-(?:db-\w+|table|cluster|stack|volume|bucket|file-system))\b",
            r"gcloud (?:.* )?(?:projects|instances|clusters|buckets|disks) delete\b",
            r"(?:gsutil (?:-m )?|gcloud storage )rm (?:.* )?(?:-\w*[rR]|--recursive)",
            r"az (?:group|aks|vm|disk|sql server|sql db|storage account) delete\b",
            r"rclone (?:.* )?(?:purge|delete) ",
            r"ceph osd pool (?:delete|rm) ",
            r"heroku (?:apps:destroy|pg:reset)\b",
        ),
    ),
    Pattern(
        "erase-crontab",
        "deletes every scheduled job without asking",
        any_call(r"crontab (?!.*-\w*i)(?:.* )?-\w*r\w*(?: |$)"),
    ),
)

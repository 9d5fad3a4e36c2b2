#!/usr/bin/env python3
"""Writes docs/reliability.md from the results that `make prove` left in a folder.

Each proof leaves one JSON object: what it is called, its figures, which fault was
planted to see whether the proof can fail, and how that was caught.
"""

import json
import pathlib
import platform
import subprocess
import sys

PROMISES = [
    ("A 204 is on disk: it survives `kill -9`", "kill"),
    ("A 204 is on disk: it survives a power cut", "powercut"),
    ("Also when crashes and failed syncs came before, and the service was started again on what they left", "powercut-crashes"),
    ("Every GET sees what was answered before it; writes happen once or not", "linearizability"),
    ("A restart with the socket held refuses and drops nobody", "restart"),
    ("A damaged file is refused or right, never wrong, never a crash", "damaged"),
    ("A copy of a running service is a consistent prefix of its history", "backup"),
    ("With PostgreSQL, a 204 survives `kill -9` of the service and of the whole server", "kill-postgres"),
    ("With PostgreSQL too, every GET sees what was answered before it", "linearizability-postgres"),
    ("With a synchronous standby a failover loses no 204, and the service goes on by itself; with an asynchronous one it"
     " may, and `check` says so", "failover"),
    ("Replacing replicas behind a balancer, one by one, fails no request and loses nothing", "replicas"),
    ("Whatever becomes of the database and its network, every request is answered within 10 s, nothing acknowledged is"
     " lost, and the service recovers by itself", "database-faults"),
    ("An upgrade with its migration, and the way back, fail nobody under load", "upgrade"),
    ("Replicas that write the same people do not deadlock", "deadlock"),
    ("Moving from a file to a database loses nothing, and refuses writes only", "switch-over"),
    ("With the log's reader, Sentry, the disks of tokens and copies and the database all dead at once, requests are"
     " answered as the contract says, probes within 1 s, and a stop ends in time", "neighbours"),
    ("Slow clients and floods cost bounded memory, and leave the others alone", "flood"),
]
ELSEWHERE = [
    ("A failed sync ends the process, and loses nothing acknowledged", "`TestAFailedSync`"),
    ("A full disk refuses writes, reads go on, writes come back", "`TestAFullDisk`"),
    ("A disk that hangs, at a commit or before it, turns readiness red; requests that gave up leave nothing behind",
     "`TestNobodyWaitsForEverForTheDisk`, `TestAHangBeforeTheCommitIsNoticed`, `TestDeletesDoNotPileUp`"),
    ("A log that nobody reads holds up nothing and tells what it dropped; the end of its reader ends nothing",
     "`TestALogThatNobodyReadsStopsNothing`, `TestALogThatIsReadAgainTellsWhatIsMissing`,"
     " `TestTheEndOfTheLogsReaderStopsNothing`"),
    ("A copy to a slow or dead disk stops nobody, and ends with the service",
     "`TestASlowCopyStopsNobody`, `TestACopyGivesUpATargetThatHangs`, `TestAFolderThatHangsKeepsNobody`"),
    ("Only copies of this very store are removed; on a full disk the oldest make room, and one that is whole stays",
     "`TestOnlyCopiesOfThisStoreAreRemoved`, `TestOfTwoServicesInOneFolderEachSeesItsOwn`,"
     " `TestTheOldestMakeRoomOnAFullDisk`, `TestOneGoodCopyAlwaysStays`"),
    ("Never two copies within the interval, whatever the folder is called and whoever sets the clock",
     "`TestNoTwoCopiesWithinTheInterval`"),
    ("A file that is removed, replaced or written over is noticed, and takes no more writes",
     "`TestAFileThatIsGoneIsNoticed`, `TestAFileThatIsWrittenOverIsNoticed`"),
    ("Tokens that cannot be read again stay as they were",
     "`TestAFaultOfTheFileKeepsTheTokens`, `TestTokensOfAFileStayWhenItIsEmptied`"),
    ("Probes answer within a second, and none waits for another", "`TestProbesDoNotQueue`"),
    ("A limit of open files leaves room for the probes", "`TestAFloodOfConnectionsLeavesFilesForTheProbes`"),
    ("A stop is bounded, whoever stands still",
     "`TestTheStopIsBoundedWhenAllNeighboursStandStill`, `TestASentryThatNeverAnswers`"),
    ("A start that takes long has systemd wait", "`TestAStartThatTakesLongHasSystemdWait`"),
    ("A step of the schema, and a restore, let requests pass while they wait behind a reader",
     "`TestRequestsPassAStepThatWaits`, `TestWritersPassARestoreThatWaits`"),
    ("Names are UTF-8 in every database; rows put in by hand spoil no export",
     "`TestADatabaseThatIsNotInUTF8`, `TestRowsPutInByHandSpoilNoOthers`"),
    ("A bad line of CSV spoils no other", "`TestReadCSVKeepsEveryGoodLine`"),
    ("Root follows no link that another user made, and a store that it makes is the folder's owner's",
     "`TestALinkInItsPlaceIsRefused`, `TestRootFollowsNoLinkOfAnother`, `TestANewStoreIsTheFoldersOwners`"),
    ("Nothing that is written tells a username or a birth date", "`TestNothingTellsWhoOrWhen`"),
    ("The days left agree with a calendar, for every pair of days", "`TestDaysLeftAgreesWithACalendar`"),
    ("Erased people leave the file by compact", "`TestErasedPeopleLeaveTheFile`"),
]


def text(value):
    """A figure as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"


def main():
    folder = pathlib.Path(sys.argv[1])
    proofs = {}
    for path in sorted(folder.glob("*.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            proof = json.loads(line)
            proofs.setdefault(proof["proof"], []).append(proof)
    go = subprocess.run(["go", "version"], capture_output=True, text=True, check=True).stdout.split()[2]
    out = [
        "# What is promised, and how it was proved",
        "",
        f"Written by `make prove` on {platform.system()} {platform.release()}, {go}. The figures are",
        "those of that run. Each proof was also run on a planted fault, which it must catch.",
        "",
        "| promise | proof | figures | planted fault | caught |",
        "|---|---|---|---|---|",
    ]
    for promise, name in PROMISES:
        for proof in proofs.pop(name, [None]):
            if proof is None:
                out.append(f"| {promise} | {name} | did not run | | |")
                continue
            figures = "; ".join(
                f"{key.replace('_', ' ')} {value if key == 'seed' else text(value)}" for key, value in proof["figures"].items()
            )
            out.append(f"| {promise} | {name} | {figures} | {proof.get('planted', '')} | {text(proof.get('caught', ''))} |")
    assert not proofs, f"proofs without a promise: {sorted(proofs)}"
    out += ["", "Proved by every run of the tests, without figures:", "", "| promise | test |", "|---|---|"]
    out += [f"| {promise} | {test} |" for promise, test in ELSEWHERE]
    out += [
        "",
        "Run one proof: `go test ./app/e2e -run Kill -v`; in its long form with `PROVE=long`.",
        "`SEED=…` repeats what chance chose.",
    ]
    pathlib.Path("docs").mkdir(exist_ok=True)
    pathlib.Path("docs/reliability.md").write_text("\n".join(out) + "\n", encoding="utf-8")
    print("wrote docs/reliability.md")


if __name__ == "__main__":
    main()

// Watchdog's guard for NinjaTrader 8: at most one executor per canonical market, and a report of this
// robot's identity. One file, to be dropped into `Documents\NinjaTrader 8\bin\Custom\AddOns`.
//
// It needs nothing but mscorlib and System.dll, which every NinjaScript project references, and no
// newer language than C# 5. That is why it speaks HTTP with HttpWebRequest (HttpClient would have each
// user add a reference to System.Net.Http) and reads JSON itself (System.Web.Extensions likewise).
//
//     guard = new CanonicalMarketGuard(new GuardOptions { Market = Instrument.FullName, ... });
//     guard.Acquire();      // in State.Realtime; throws unless this run may execute the market
//     guard.Check();        // right before every order; throws LeaseLost or KillSwitchEngaged
//     guard.Release();      // in State.Terminated
//
// What is promised, and what is not, stands in docs/guard.md; the protocol in docs/protocol.md. What
// is different here: a library in a chart cannot end NinjaTrader's process, which runs other charts.
// At stop time it calls OnLost, from then on Check() refuses, and at kill time it calls OnLost once
// more. A strategy that sends orders without asking Check() is not stopped by anything.
//
// On Linux, under Mono, it runs in tests and excludes the Python guard there with the same locks.

using System;
using System.Collections;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Net;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading;
using Microsoft.Win32.SafeHandles;
using Watchdog.Internal;

namespace Watchdog
{
    #region What goes wrong

    /// <summary>
    /// Something the guard refuses to go on with; the message is one sentence for an operator. The
    /// code is stable and meant for programs; the exit status is for a robot that is a process.
    /// </summary>
    public abstract class GuardError : Exception
    {
        protected GuardError(string code, int exitStatus, string message) : base(message)
        {
            Code = code;
            ExitStatus = exitStatus;
        }

        public string Code { get; private set; }

        public int ExitStatus { get; private set; }
    }

    /// <summary>The guard was asked for something that makes no sense.</summary>
    public sealed class InvalidConfiguration : GuardError
    {
        public InvalidConfiguration(string message) : base("INVALID_CONFIGURATION", 64, message) { }
    }

    /// <summary>The symbol names no execution instrument of the registry; it is never guessed.</summary>
    public sealed class UnknownInstrument : GuardError
    {
        public UnknownInstrument(string message) : base("UNKNOWN_INSTRUMENT", 64, message) { }
    }

    /// <summary>Another run executes this canonical market; this one must not start.</summary>
    public sealed class CanonicalMarketAlreadyActive : GuardError
    {
        public CanonicalMarketAlreadyActive(string message, ActiveRun active, double? retryAfter)
            : base("CANONICAL_MARKET_ALREADY_ACTIVE", 75, message)
        {
            Active = active ?? new ActiveRun();
            RetryAfter = retryAfter;
        }

        public ActiveRun Active { get; private set; }

        /// <summary>Seconds until the earliest grant if the holder is dead; null where unknown.</summary>
        public double? RetryAfter { get; private set; }
    }

    /// <summary>Nobody could say that this run may execute the market, so it may not.</summary>
    public sealed class LockAuthorityUnavailable : GuardError
    {
        public LockAuthorityUnavailable(string message) : base("LOCK_AUTHORITY_UNAVAILABLE", 69, message) { }
    }

    /// <summary>This run no longer holds the market, or cannot prove in time that it does.</summary>
    public sealed class LeaseLost : GuardError
    {
        internal const string EventName = "CANONICAL_MARKET_LOCK_LOST";

        public LeaseLost(string message) : base(EventName, 70, message) { }
    }

    /// <summary>An operator said: no orders. The market is not lost, but nothing may be sent.</summary>
    public sealed class KillSwitchEngaged : GuardError
    {
        internal const string EventName = "KILL_SWITCH_ACTIVE";

        public KillSwitchEngaged(string message) : base(EventName, 69, message) { }
    }

    /// <summary>The guard and the registry disagree about an instrument's canonical market.</summary>
    public sealed class MappingDrift : GuardError
    {
        public MappingDrift(string message) : base("MAPPING_DRIFT", 69, message) { }
    }

    /// <summary>What is known of the run that executes a market; null for what is not.</summary>
    public sealed class ActiveRun
    {
        public string RunId { get; internal set; }

        public string Host { get; internal set; }

        public string ExecutionInstrument { get; internal set; }

        /// <summary>ISO 8601.</summary>
        public string Since { get; internal set; }

        public long? FencingToken { get; internal set; }

        internal string Told()
        {
            List<string> details = new List<string>();
            if (!string.IsNullOrEmpty(ExecutionInstrument)) details.Add(ExecutionInstrument);
            if (!string.IsNullOrEmpty(Since)) details.Add("since " + Since);
            return (string.IsNullOrEmpty(RunId) ? "by a run that is not named" : "by run " + RunId)
                + (string.IsNullOrEmpty(Host) ? "" : " on host " + Host)
                + (details.Count == 0 ? "" : " (" + string.Join(", ", details.ToArray()) + ")");
        }
    }

    #endregion

    #region The guard, as a strategy sees it

    /// <summary>What to guard, and by whom. Server, key and project root may come from the environment
    /// as well: WATCHDOG_URL, WATCHDOG_API_KEY, WATCHDOG_PROJECT_ROOT.</summary>
    public sealed class GuardOptions
    {
        /// <summary>What the robot trades, in any notation: `MES 03-26`, `MES`, `MESH26`.</summary>
        public string Market { get; set; }

        /// <summary>The lock authority, like `http://192.168.1.10:8000`. On the same machine
        /// 127.0.0.1 rather than localhost, which Windows looks for under another address first.
        /// </summary>
        public string Server { get; set; }

        public string ApiKey { get; set; }

        /// <summary>A file that holds the key alone, so that no workspace or template carries it.</summary>
        public string ApiKeyFile { get; set; }

        /// <summary>The account, for a market that is exclusive per account.</summary>
        public string Account { get; set; }

        /// <summary>The folder of `runtime_locks`, one per host. Default: Watchdog below ProgramData.</summary>
        public string ProjectRoot { get; set; }

        /// <summary>Guard this host alone, without a server. Nothing is reported then.</summary>
        public bool HostOnly { get; set; }

        /// <summary>For host-only: no orders unless this file says `released`.</summary>
        public string KillSwitchFile { get; set; }

        /// <summary>Say what would have happened, and never refuse anything.</summary>
        public bool Observe { get; set; }

        /// <summary>1 to 128 characters, fresh on every start; made where it is not given.</summary>
        public string RunId { get; set; }

        /// <summary>The robot's streams of this market, like `ES1`; see IdentityInvariants.</summary>
        public IEnumerable<string> StreamIds { get; set; }

        /// <summary>Called from another thread when the market is lost: at stop time or as soon as it
        /// is known, and once more at kill time unless Release() was called. Never while observing.
        /// </summary>
        public Action<MarketLost> OnLost { get; set; }

        /// <summary>Takes an event's fixed name and a sentence for people, from any thread.</summary>
        public Action<string, string> Report { get; set; }
    }

    /// <summary>Why, and how much time there is left to get out of the market.</summary>
    public sealed class MarketLost
    {
        internal MarketLost(string sentence, double secondsUntilKill, bool isKillTime)
        {
            Sentence = sentence;
            SecondsUntilKill = secondsUntilKill;
            IsKillTime = isKillTime;
        }

        public string Sentence { get; private set; }

        /// <summary>Until nothing of this robot may act in the market; 0 or less: not even to flatten,
        /// because another robot may have the market by now.</summary>
        public double SecondsUntilKill { get; private set; }

        public bool IsKillTime { get; private set; }
    }

    /// <summary>
    /// At most one executor per canonical market. Fails closed: without both the host's lock and the
    /// authority's lease Acquire() throws a GuardError. Call Check() right before every order. Every
    /// member may be called from any thread.
    /// </summary>
    public sealed class CanonicalMarketGuard : IDisposable
    {
        private const double HostOnlyKillGrace = 2.0;

        private readonly GuardOptions options;
        private readonly Surroundings surroundings;
        private readonly object gate = new object();
        private readonly Dictionary<string, bool> told = new Dictionary<string, bool>();
        private Renewals renewals;
        private Reporter reporter;

        public CanonicalMarketGuard(GuardOptions options) : this(options, Surroundings.Real) { }

        internal CanonicalMarketGuard(GuardOptions options, Surroundings surroundings)
        {
            if (options == null) throw new ArgumentNullException("options");
            this.options = options;
            this.surroundings = surroundings;
            RunId = Wanted.ChosenRunId(options.RunId);
            Identity = new IdentityInvariants(options.StreamIds);
        }

        public string RunId { get; private set; }

        /// <summary>What this robot's streams are; reported while the market is held.</summary>
        public IdentityInvariants Identity { get; private set; }

        /// <summary>`ES` for `MES 03-26`; null where nothing is held.</summary>
        public string CanonicalInstrument
        {
            get { Renewals now = Current; return now == null ? null : now.Held.Product.Canonical; }
        }

        /// <summary>The lease's token; null for host-only, or when nothing is held.</summary>
        public long? FencingToken
        {
            get
            {
                Renewals now = Current;
                return now == null || now.Held.Lease == null ? (long?)null : now.Held.Lease.Grant.FencingToken;
            }
        }

        /// <summary>Reconcile orders and positions first: the last holder did not leave cleanly.</summary>
        public bool Takeover
        {
            get { Renewals now = Current; return now != null && now.Held.Takeover; }
        }

        /// <summary>Whether the market is held at this moment, kill switch or not.</summary>
        public bool Held
        {
            get
            {
                try
                {
                    Renewals now = Current;
                    if (now == null) return false;
                    now.Check();
                }
                catch (KillSwitchEngaged)
                {
                    return true;
                }
                catch (LeaseLost)
                {
                    return false;
                }
                return true;
            }
        }

        /// <summary>Until stop time unless a renewal succeeds; 0 when not held, infinite for host-only.</summary>
        public double SecondsLeft
        {
            get
            {
                Renewals now = Current;
                return now == null || !Held ? 0.0 : Math.Max(now.StopAt - surroundings.Now(), 0.0);
            }
        }

        /// <summary>Events that never reached the server: thrown away for want of room, or refused.</summary>
        public long EventsDropped
        {
            get { Reporter now; lock (gate) now = reporter; return now == null ? 0 : now.Dropped; }
        }

        private Renewals Current
        {
            get { lock (gate) return renewals; }
        }

        /// <summary>
        /// Take the market, or throw. Waits for the server: 4 s where it hangs, 16 s at the very worst.
        /// Call it in State.Realtime alone: not while a chart loads history, nor in the Strategy Analyzer,
        /// whose runs send no orders.
        /// </summary>
        public void Acquire()
        {
            if (Current != null) throw new InvalidConfiguration("This guard holds its market already.");
            GuardError refusal = null;
            try
            {
                Take();
            }
            catch (GuardError said)
            {
                refusal = said;
            }
            catch (Exception failure)
            {
                refusal = new LockAuthorityUnavailable("Taking " + options.Market + " failed: " + failure + ".");
            }
            if (refusal == null) return;
            if (!options.Observe) throw refusal;
            Say(refusal.Code, "Observing, so going on regardless: " + refusal.Message);
        }

        /// <summary>Throw LeaseLost or KillSwitchEngaged unless an order may be sent at this very moment.</summary>
        public void Check()
        {
            try
            {
                Renewals now = Current;
                if (now == null) throw new LeaseLost(options.Market + " is not held.");
                now.Check();
            }
            catch (GuardError refusal)
            {
                if (!options.Observe) throw;
                lock (gate)
                {
                    if (told.ContainsKey(refusal.Message)) return;
                    told[refusal.Message] = true;
                }
                Say(refusal.Code, "Observing, so going on regardless: " + refusal.Message);
            }
        }

        /// <summary>Tell the watchdog of an event, like `ORDER_SUBMITTED`: it carries this run, both
        /// identities and the fencing token. `data` may be null; its values are text, numbers, true,
        /// false or null. Never waits and never throws; does nothing before Acquire().</summary>
        public void Tell(string eventName, string streamId, IDictionary<string, object> data)
        {
            Reporter now;
            lock (gate) now = reporter;
            if (now != null) now.Tell(eventName, streamId, data, FencingToken);
        }

        /// <summary>Give the market back; again and again. Call it once nothing of the robot trades. Waits 5 s
        /// at the longest, where the server hangs.</summary>
        public void Release()
        {
            Release("clean");
        }

        /// <summary>`crashed` has the next holder told to reconcile orders and positions.</summary>
        public void Release(string reason)
        {
            if (reason != "clean" && reason != "crashed")
                throw new InvalidConfiguration("A market is given back as clean or as crashed.");
            Renewals was;
            Reporter reporting;
            lock (gate)
            {
                was = renewals;
                reporting = reporter;
                renewals = null;
            }
            AppDomain.CurrentDomain.ProcessExit -= AtProcessExit;
            if (reporting != null) reporting.Finish(reason == "clean");
            if (was == null) return;
            was.End();
            was.Held.Release(reason, Say);
            if (reporting != null) reporting.WaitFinished();
        }

        public void Dispose()
        {
            Release();
        }

        private void Take()
        {
            Wanted wanted = Wanted.From(options, RunId);
            Say("PROJECT_ROOT", "Lock files are below " + wanted.Root + ".");
            Product product = Taking.Resolved(wanted, surroundings);
            HeldMarket held;
            try
            {
                held = Taking.TakeMarket(wanted, product, surroundings, Say);
            }
            catch (GuardError)
            {
                // An observed robot trades all the same, so its identity is worth watching.
                if (options.Observe) StartReporting(wanted, product);
                throw;
            }
            Renewals taken = new Renewals(held, surroundings);
            taken.OnLost = Lost;
            taken.OnKillSwitch = SayKillSwitch;
            lock (gate) renewals = taken;
            AppDomain.CurrentDomain.ProcessExit += AtProcessExit;
            // Before renewing: whoever loses the market ends the reports.
            StartReporting(wanted, held.Product);
            try
            {
                taken.Start();
            }
            catch (Exception)
            {
                // Nobody would renew it.
                Release("crashed");
                throw;
            }
        }

        private void StartReporting(Wanted wanted, Product product)
        {
            Identity.Concern(product);
            try
            {
                Reporter started = null;
                if (wanted.Server != null)
                    started = new Reporter(wanted, product, Identity, surroundings, Say);
                lock (gate) reporter = started;
                if (started != null) started.Start();
            }
            catch (Exception failure)
            {
                // A market is worth holding without reports too.
                Say("EVENTS_FAILED", "Events are not sent: " + failure);
            }
        }

        private void Lost(string sentence)
        {
            Renewals was = Current;
            if (was == null) return;
            Say(LeaseLost.EventName, sentence);
            if (options.Observe) return;
            Reporter reporting;
            lock (gate) reporting = reporter;
            if (reporting != null) reporting.EndStatus();
            Lease lease = was.Held.Lease;
            double grace = lease == null ? HostOnlyKillGrace : lease.Grant.KillAfter - lease.Grant.StopAfter;
            double killAt = Math.Min(was.KillAt, surroundings.Now() + grace);
            surroundings.Start("canonical-guard-kill-time", delegate { KillTime(was, killAt); });
            TellLost(new MarketLost(sentence, killAt - surroundings.Now(), false));
        }

        private void KillTime(Renewals was, double killAt)
        {
            for (double left; (left = killAt - surroundings.Now()) > 0 && !was.IsOver;)
                was.WaitOver(Math.Min(left, 1.0));
            if (was.IsOver) return;
            string sentence = was.Held.Product.Canonical
                + " was lost, and kill time is over: nothing of this robot may act in it any more. A chart "
                + "cannot end NinjaTrader; end the strategy, and reconcile orders and positions by hand.";
            Say(LeaseLost.EventName, sentence);
            TellLost(new MarketLost(sentence, killAt - surroundings.Now(), true));
        }

        private void TellLost(MarketLost lost)
        {
            if (options.OnLost == null) return;
            try
            {
                options.OnLost(lost);
            }
            catch (Exception failure)
            {
                Say("ON_LOST_FAILED", "The robot's own OnLost failed: " + failure.Message);
            }
        }

        private void SayKillSwitch(bool engaged)
        {
            if (engaged) Say(KillSwitchEngaged.EventName, "The kill switch is engaged: no orders.");
            else Say("KILL_SWITCH_RELEASED", "The kill switch is released.");
        }

        private void AtProcessExit(object sender, EventArgs arguments)
        {
            // Nobody released: who comes next must reconcile, but need not wait for the lease to end.
            Release("crashed");
        }

        private void Say(string eventName, string sentence)
        {
            try
            {
                if (options.Report != null) options.Report(eventName, sentence);
                else Trace.WriteLine("canonical_guard: " + eventName + ": " + sentence);
            }
            catch (Exception)
            {
                // Nobody hears it; that must not cost the market.
            }
        }
    }

    #endregion

    #region Identity

    /// <summary>
    /// The rules of identity that a robot can check of itself, as the watchdog checks them of everybody.
    /// Reported as IDENTITY_INVARIANTS_STATUS at every change and every 60 seconds.
    /// </summary>
    public sealed class IdentityInvariants
    {
        private readonly object gate = new object();
        private readonly SortedDictionary<string, string[]> streams =
            new SortedDictionary<string, string[]>(StringComparer.Ordinal);
        private Product market;

        internal IdentityInvariants(IEnumerable<string> streamIds)
        {
            if (streamIds == null) return;
            foreach (string streamId in streamIds) streams[streamId ?? ""] = null;
        }

        /// <summary>Called after a change, outside every lock.</summary>
        internal Action Changed { get; set; }

        /// <summary>A stream of the guarded market, with the guard's own instruments.</summary>
        public void SetStream(string streamId)
        {
            Put(streamId, null);
        }

        /// <summary>A stream as the robot really runs it: what it says its canonical instrument is (null:
        /// the guard's), and where its orders go to.</summary>
        public void SetStream(string streamId, string canonicalInstrument, string executionInstrument)
        {
            Put(streamId, new[] { canonicalInstrument, executionInstrument ?? "" });
        }

        public void RemoveStream(string streamId)
        {
            lock (gate) streams.Remove(streamId ?? "");
            TellChanged();
        }

        /// <summary>How the invariants stand now.</summary>
        public IdentityResult Evaluate()
        {
            lock (gate) return new Judgement(market, streams).Result();
        }

        internal void Concern(Product product)
        {
            lock (gate) market = product;
        }

        /// <summary>Execution to canonical instrument, of everything the streams name.</summary>
        internal Dictionary<string, object> Mappings()
        {
            lock (gate) return new Judgement(market, streams).Mappings();
        }

        private void Put(string streamId, string[] instruments)
        {
            lock (gate) streams[streamId ?? ""] = instruments;
            TellChanged();
        }

        private void TellChanged()
        {
            Action changed = Changed;
            if (changed != null) changed();
        }

        private sealed class Judgement
        {
            private readonly Product market;
            private readonly SortedDictionary<string, string[]> streams;
            private readonly List<string> violations = new List<string>();
            private bool isCertain = true;

            internal Judgement(Product market, SortedDictionary<string, string[]> streams)
            {
                this.market = market;
                this.streams = streams;
            }

            internal IdentityResult Result()
            {
                List<string> names = new List<string>();
                foreach (KeyValuePair<string, string[]> stream in streams)
                {
                    names.Add(stream.Key);
                    if (market != null)
                        Judge(stream.Key, Canonical(stream.Value), Execution(stream.Value));
                }
                // Nothing to check is not a pass, and neither is what nobody here can judge.
                bool? passed = null;
                if (violations.Count > 0) passed = false;
                else if (market != null && names.Count > 0 && isCertain) passed = true;
                return new IdentityResult(passed, violations.ToArray(), names.ToArray());
            }

            internal Dictionary<string, object> Mappings()
            {
                Dictionary<string, object> found = new Dictionary<string, object>();
                found[market.Execution] = market.Canonical;
                foreach (string[] instruments in streams.Values)
                {
                    Product product = Known(Execution(instruments));
                    if (product != null) found[product.Execution] = product.Canonical;
                }
                return found;
            }

            private void Judge(string streamId, string canonical, string execution)
            {
                string ofStream = CanonicalOfStream(streamId);
                if (ofStream == null)
                    Add("STREAM_ID_NOT_CANONICAL", streamId,
                        (streamId.Length == 0 ? "An empty stream id" : "The stream id '" + streamId + "'")
                        + " is not a canonical instrument and a number, like ES1.");
                else if (ofStream != market.Canonical)
                    Add("INSTRUMENT_MISMATCH", streamId,
                        streamId + " is a stream of " + ofStream + ", but this guard holds " + market.Canonical + ".");
                string expected = ofStream ?? market.Canonical;
                if (canonical.Length > 0 && Judged(canonical) && Known(canonical).Execution != expected)
                    Add("INSTRUMENT_MISMATCH", streamId,
                        streamId + " names '" + canonical + "' as its canonical instrument, not " + expected + ".");
                if (execution.Length == 0)
                    Add("EXECUTION_INSTRUMENT_MISSING", streamId,
                        (streamId.Length == 0 ? "A stream without an id" : "Stream " + streamId)
                        + " has no execution instrument.");
                else if (Judged(execution) && Known(execution).Canonical != expected)
                    Add("EXECUTION_NOT_OF_CANONICAL", streamId,
                        streamId + " of " + expected + " executes '" + execution + "'.");
            }

            private bool Judged(string name)
            {
                bool known = Known(name) != null;
                // Only the server's registry may know it.
                isCertain = isCertain && known;
                return known;
            }

            private void Add(string code, string subject, string message)
            {
                violations.Add(code + " " + subject + ": " + message);
            }

            private string Canonical(string[] instruments)
            {
                return instruments == null || instruments[0] == null ? market.Canonical : instruments[0].Trim();
            }

            private string Execution(string[] instruments)
            {
                return instruments == null ? market.Execution : instruments[1].Trim();
            }

            private Product Known(string name)
            {
                string text = Symbols.Normalise(name);
                if (text == market.Execution) return market;
                if (text == market.Canonical) return new Product(text, text);
                return Symbols.Find(name);
            }

            /// <summary>`ES` for `ES1`; null where the id is not a canonical symbol and a number.</summary>
            private string CanonicalOfStream(string streamId)
            {
                int cut = streamId.Length;
                string found = null;
                while (cut > 0 && streamId.Length - cut < 4 && streamId[cut - 1] >= '0' && streamId[cut - 1] <= '9')
                {
                    cut--;
                    string symbol = streamId.Substring(0, cut);
                    // The longest symbol counts: one may end in digits.
                    if (found == null && streamId[cut] != '0'
                        && (symbol == market.Canonical || Symbols.IsCanonical(symbol)))
                        found = symbol;
                }
                return found;
            }
        }
    }

    /// <summary>A result of the invariants; `Passed` is null where there is nothing that can be judged.</summary>
    public sealed class IdentityResult
    {
        internal IdentityResult(bool? passed, string[] violations, string[] streamIds)
        {
            Passed = passed;
            Violations = violations;
            StreamIds = streamIds;
        }

        public bool? Passed { get; private set; }

        public string[] Violations { get; private set; }

        public string[] StreamIds { get; private set; }

        internal string Summary()
        {
            return Passed + "\n" + string.Join("\n", Violations) + "\n\n" + string.Join("\n", StreamIds);
        }
    }

    #endregion
}

// Nothing below is meant for strategies.
namespace Watchdog.Internal
{
    #region Events

    /// <summary>
    /// Brings events to the server: in order, with retries, from a queue that is bounded, so that a server
    /// that is away costs neither memory nor a chart's time. An event_id has each event counted once.
    /// </summary>
    internal sealed class Reporter
    {
        internal const int MostWaiting = 1000;
        private const int MostInBatch = 100;
        private const int LongestEvent = 32768;
        private const double StatusEvery = 60.0;
        private const double LongestPause = 30.0;
        private const double PostTimeout = 10.0;
        private const double FinishWithin = 5.0;
        private const int FinishedWithinMilliseconds = 1000;

        private readonly Wanted wanted;
        private readonly Product product;
        private readonly IdentityInvariants identity;
        private readonly Surroundings surroundings;
        private readonly Action<string, string> say;
        private readonly Authority authority;
        private readonly object gate = new object();
        private readonly Queue<string> waiting = new Queue<string>();
        private readonly ManualResetEvent wake = new ManualResetEvent(false);
        private readonly ManualResetEvent finished = new ManualResetEvent(false);
        private readonly List<string> batch = new List<string>();
        private string lastSummary;
        private long dropped;
        private bool saidDropped;
        private bool hasStatus = true;
        private double finishBy = double.PositiveInfinity;
        private double statusAt;
        private double postAt;
        private double pause = 1.0;

        internal Reporter(
            Wanted wanted, Product product, IdentityInvariants identity, Surroundings surroundings,
            Action<string, string> say)
        {
            this.wanted = wanted;
            this.product = product;
            this.identity = identity;
            this.surroundings = surroundings;
            this.say = say;
            authority = surroundings.AuthorityAt(wanted.Server, wanted.ApiKey);
        }

        internal long Dropped
        {
            get { lock (gate) return dropped; }
        }

        internal void Start()
        {
            Tell("ENGINE_START", null, null, null);
            Dictionary<string, object> selfTest = new Dictionary<string, object>();
            selfTest["instrument_mappings"] = identity.Mappings();
            selfTest["canonical_stream_ids"] = identity.Evaluate().StreamIds;
            Tell("CANONICALIZATION_SELF_TEST", null, selfTest, null);
            TellStatus(true);
            identity.Changed = delegate { TellStatus(false); };
            surroundings.Start("canonical-guard-events", Run);
        }

        /// <summary>A run that has lost its market is no evidence of it any more. What it does all the same
        /// is worth telling.</summary>
        internal void EndStatus()
        {
            identity.Changed = null;
            lock (gate) hasStatus = false;
        }

        /// <summary>Send what is left, for a few seconds at most; the caller does not wait for it.</summary>
        internal void Finish(bool clean)
        {
            if (clean) Tell("ENGINE_STOP", null, null, null);
            EndStatus();
            lock (gate) finishBy = Math.Min(finishBy, surroundings.Now() + FinishWithin);
            wake.Set();
        }

        /// <summary>Never throws, whatever `data` holds.</summary>
        internal void Tell(string eventName, string streamId, IDictionary<string, object> data, long? token)
        {
            string text;
            try
            {
                text = Line(eventName, streamId, data, token);
            }
            catch (Exception failure)
            {
                Drop(1, eventName + " cannot be written (" + failure.Message + ")");
                return;
            }
            if (text.Length > LongestEvent)
            {
                Drop(1, eventName + " is longer than " + LongestEvent + " characters");
                return;
            }
            bool isFull;
            lock (gate)
            {
                if (!double.IsPositiveInfinity(finishBy)) return;
                isFull = waiting.Count >= MostWaiting;
                // The newest events say best how things stand.
                if (isFull) waiting.Dequeue();
                waiting.Enqueue(text);
            }
            wake.Set();
            if (isFull) Drop(1, "there is no room for more until the server takes some");
        }

        private string Line(string eventName, string streamId, IDictionary<string, object> data, long? token)
        {
            Dictionary<string, object> line = new Dictionary<string, object>();
            line["event"] = eventName;
            line["event_id"] = Guid.NewGuid().ToString("N");
            line["ts_utc"] = DateTime.UtcNow.ToString("o", CultureInfo.InvariantCulture);
            line["run_id"] = wanted.RunId;
            line["host"] = Host.Name();
            line["canonical_instrument"] = product.Canonical;
            line["execution_instrument"] = product.Execution;
            if (wanted.Account != null) line["account"] = wanted.Account;
            if (!string.IsNullOrEmpty(streamId)) line["stream"] = streamId;
            if (token != null) line["fencing_token"] = token.Value;
            line["data"] = data ?? new Dictionary<string, object>();
            return Json.Write(line);
        }

        private void TellStatus(bool always)
        {
            IdentityResult result = identity.Evaluate();
            lock (gate)
            {
                if (!always && result.Summary() == lastSummary) return;
                lastSummary = result.Summary();
                statusAt = surroundings.Now() + StatusEvery;
            }
            Dictionary<string, object> data = new Dictionary<string, object>();
            data["pass"] = result.Passed;
            data["violations"] = result.Violations;
            data["canonical_instrument"] = product.Canonical;
            data["execution_instrument"] = product.Execution;
            data["stream_ids"] = result.StreamIds;
            data["checked_at_utc"] = DateTime.UtcNow.ToString("o", CultureInfo.InvariantCulture);
            if (Dropped > 0) data["events_dropped"] = Dropped;
            Tell("IDENTITY_INVARIANTS_STATUS", null, data, null);
        }

        /// <summary>For a process that ends right away: what was said last is worth a moment.</summary>
        internal void WaitFinished()
        {
            finished.WaitOne(FinishedWithinMilliseconds);
        }

        private void Run()
        {
            try
            {
                while (KeepSending()) { }
                int left;
                lock (gate) left = batch.Count + waiting.Count;
                if (left > 0) Drop(left, "the server did not take them before the end");
            }
            catch (Exception failure)
            {
                say("EVENTS_FAILED", "Events are not sent any more: " + failure);
            }
            finished.Set();
        }

        /// <summary>One pass; false when all is said, or time is up.</summary>
        private bool KeepSending()
        {
            wake.Reset();
            bool isDue;
            double endAt;
            lock (gate)
            {
                isDue = hasStatus && surroundings.Now() >= statusAt;
                endAt = finishBy;
            }
            if (isDue) TellStatus(true);
            if (surroundings.Now() >= endAt) return false;
            Fill();
            if (batch.Count == 0 && !double.IsPositiveInfinity(endAt)) return false;
            double wait = batch.Count == 0 ? 1.0 : Math.Min(postAt - surroundings.Now(), 1.0);
            if (wait > 0) surroundings.Wait(wake, wait);
            else Post();
            return true;
        }

        private void Fill()
        {
            if (batch.Count > 0) return;
            lock (gate)
            {
                while (batch.Count < MostInBatch && waiting.Count > 0) batch.Add(waiting.Dequeue());
            }
        }

        private void Post()
        {
            string why;
            try
            {
                string body = "[" + string.Join(",", batch.ToArray()) + "]";
                Answer answer = authority.Post("/api/events", body, PostTimeout);
                if (answer.Status == 200 && answer.Body.ContainsKey("accepted"))
                {
                    Taken(answer);
                    return;
                }
                why = answer.Code + ": " + answer.Detail;
                bool isFinal = answer.Status >= 400 && answer.Status < 500
                    && answer.Status != 408 && answer.Status != 429;
                if (isFinal)
                {
                    int refused = batch.Count;
                    batch.Clear();
                    Drop(refused, "the server refused them (" + why + ")");
                    return;
                }
            }
            catch (Unanswered)
            {
                // Sent again: the event_id has what did arrive counted once.
            }
            postAt = surroundings.Now() + pause;
            pause = Math.Min(pause * 2, LongestPause);
        }

        private void Taken(Answer answer)
        {
            batch.Clear();
            pause = 1.0;
            object rejected;
            answer.Body.TryGetValue("rejected", out rejected);
            int count = rejected is List<object> ? ((List<object>)rejected).Count : 0;
            if (count > 0)
            {
                Drop(count, "the server rejected them");
                return;
            }
            lock (gate)
            {
                if (!saidDropped) return;
                saidDropped = false;
            }
            say("EVENTS_DROPPED", "The server takes events again; " + Dropped + " were dropped so far.");
        }

        private void Drop(int count, string why)
        {
            lock (gate)
            {
                dropped += count;
                if (saidDropped) return;
                saidDropped = true;
            }
            say("EVENTS_DROPPED",
                count + " of this run's events were dropped: " + why + ". EventsDropped counts them.");
        }
    }

    #endregion

    #region Taking and keeping a market

    /// <summary>What is different in tests: the clock, waiting, threads, and who is asked.</summary>
    internal class Surroundings
    {
        internal const int StackBytes = 262144;
        internal static readonly Surroundings Real = new Surroundings();

        private static readonly object Gate = new object();
        private static readonly Dictionary<string, Authority> Authorities = new Dictionary<string, Authority>();

        /// <summary>Seconds since the host started, time asleep included.</summary>
        internal virtual double Now()
        {
            return HostSystem.Current.Now();
        }

        internal virtual void Wait(ManualResetEvent wake, double seconds)
        {
            wake.WaitOne((int)Math.Ceiling(Math.Min(seconds, 60.0) * 1000.0));
        }

        /// <summary>A thread that cannot end the process by its failure, nor keep it alive.</summary>
        internal virtual Thread Start(string name, ThreadStart body)
        {
            Thread thread = new Thread(delegate() { Survive(body); }, StackBytes);
            thread.IsBackground = true;
            thread.Name = name;
            thread.Start();
            return thread;
        }

        private static void Survive(ThreadStart body)
        {
            try
            {
                body();
            }
            catch (Exception failure)
            {
                // What nobody catches ends NinjaTrader, with every other chart in it.
                Trace.WriteLine("canonical_guard: " + Thread.CurrentThread.Name + " failed: " + failure);
            }
        }

        /// <summary>One for all charts of this process that ask the same server with the same key.</summary>
        internal virtual Authority AuthorityAt(string server, string apiKey)
        {
            lock (Gate)
            {
                string name = server + "\n" + apiKey;
                if (!Authorities.ContainsKey(name)) Authorities[name] = new Authority(server, apiKey);
                return Authorities[name];
            }
        }
    }

    /// <summary>What a robot asks for; `Server` is null for host-only.</summary>
    internal sealed class Wanted
    {
        internal string Symbol, RunId, Root, Server, ApiKey, Account;
        internal bool AllowNetwork;
        internal KillSwitchFile KillSwitch;

        internal static Wanted From(GuardOptions options, string runId)
        {
            if (string.IsNullOrEmpty(options.Market)) throw new InvalidConfiguration("The guard needs a market.");
            if (options.HostOnly && !string.IsNullOrEmpty(options.Server))
                throw new InvalidConfiguration("Host-only means without a server; name one or the other.");
            if (options.KillSwitchFile != null && !options.HostOnly)
                throw new InvalidConfiguration(
                    "A kill switch file is for host-only; with a server its own kill switch counts.");
            if (options.KillSwitchFile == "") throw new InvalidConfiguration("The kill switch file needs a name.");
            string server = FirstOf(options.Server, Environment.GetEnvironmentVariable("WATCHDOG_URL"));
            string key = FirstOf(options.ApiKey, KeyIn(options.ApiKeyFile));
            key = FirstOf(key, Environment.GetEnvironmentVariable("WATCHDOG_API_KEY"));
            if (!options.HostOnly && server == null)
                throw new LockAuthorityUnavailable(
                    "No lock authority is configured: name one (WATCHDOG_URL), or say host-only to guard this host "
                    + "alone.");
            if (!options.HostOnly && key == null)
                throw new LockAuthorityUnavailable(
                    "There is no API key for the lock authority: set WATCHDOG_API_KEY.");
            string account = string.IsNullOrEmpty(options.Account) ? null : options.Account;
            if (account != null && !IsPrintable(account))
                throw new InvalidConfiguration("An account is 1 to 128 printable characters.");
            return new Wanted
            {
                Symbol = Symbols.Normalise(options.Market),
                RunId = runId,
                Root = ChosenRoot(options.ProjectRoot),
                Server = options.HostOnly ? null : server,
                ApiKey = options.HostOnly ? null : key,
                Account = account,
                AllowNetwork = Environment.GetEnvironmentVariable("WATCHDOG_ALLOW_NETWORK_FILE_SYSTEM") == "1",
                KillSwitch = options.KillSwitchFile == null
                    ? null : new KillSwitchFile(FullPath("kill switch file", options.KillSwitchFile))
            };
        }

        internal static string ChosenRunId(string runId)
        {
            if (runId == null) return Guid.NewGuid().ToString("N");
            if (!IsPrintable(runId)) throw new InvalidConfiguration("A run_id is 1 to 128 printable characters.");
            return runId;
        }

        private static bool IsPrintable(string text)
        {
            if (text.Length == 0 || text.Length > 128) return false;
            foreach (char letter in text)
                if (char.IsControl(letter) || char.IsSurrogate(letter)) return false;
            return true;
        }

        private static string FirstOf(string first, string second)
        {
            if (!string.IsNullOrEmpty(first)) return first;
            return string.IsNullOrEmpty(second) ? null : second;
        }

        private static string KeyIn(string file)
        {
            if (string.IsNullOrEmpty(file)) return null;
            string key;
            try
            {
                key = File.ReadAllText(file).Trim();
            }
            catch (Exception failure)
            {
                throw new InvalidConfiguration("The API key file " + file + " cannot be read: " + failure.Message);
            }
            if (key.Length == 0) throw new InvalidConfiguration("The API key file " + file + " holds no key.");
            return key;
        }

        private static string ChosenRoot(string chosen)
        {
            string root = FirstOf(chosen, Environment.GetEnvironmentVariable("WATCHDOG_PROJECT_ROOT"));
            return root == null ? HostSystem.Current.DefaultRoot() : FullPath("project root", root);
        }

        private static string FullPath(string what, string path)
        {
            try
            {
                return Path.GetFullPath(path);
            }
            catch (Exception failure)
            {
                throw new InvalidConfiguration("The " + what + " has no possible name: " + failure.Message);
            }
        }
    }

    /// <summary>Released only while the file says `released`; missing, unreadable or anything else is
    /// engaged.</summary>
    internal sealed class KillSwitchFile
    {
        private const int Longest = 64;
        private readonly string path;

        internal KillSwitchFile(string path)
        {
            this.path = path;
        }

        /// <summary>A sentence for people while no orders may be sent, else null; never throws.</summary>
        internal string EngagedBecause()
        {
            string why;
            try
            {
                FoundFile found = HostSystem.Current.Look(path);
                if (found == null) throw new IOException("there is no such file");
                if (!found.IsRegular) throw new IOException("it is no regular file");
                string said = Encoding.ASCII.GetString(HostSystem.Current.Read(path, Longest)).Trim();
                if (said.ToLowerInvariant() == "released") return null;
                why = "says '" + said + "'";
            }
            catch (Exception failure)
            {
                why = "cannot be read (" + failure.Message + ")";
            }
            return "The kill switch file " + path + " " + why + ", so it counts as engaged: no orders. "
                + "Write 'released' into it to release it.";
        }
    }

    /// <summary>Both guards in one hand; `Lease` is null for host-only.</summary>
    internal sealed class HeldMarket
    {
        internal string RunId;
        internal Product Product;
        internal HostLock HostLock;
        internal Lease Lease;
        internal bool FoundStale;
        internal KillSwitchFile KillSwitch;

        /// <summary>The authority knows of every host; this host's own marks count where nobody else
        /// can tell.</summary>
        internal bool Takeover
        {
            get { return Lease == null ? HostLock.LeftUncleanly : Lease.Grant.Takeover || FoundStale; }
        }

        internal string Sentence()
        {
            string whose = Product.Canonical + " is held by run " + RunId;
            string again = Takeover ? " The last holder did not leave cleanly: reconcile." : "";
            if (Lease == null) return whose + " on this host alone; no other host is kept out." + again;
            string scope = Lease.Grant.Scope.Length == 0 ? "" : ", account " + Lease.Grant.Scope;
            return whose + " (" + Lease.Grant.Execution + scope + ", fencing token " + Lease.Grant.FencingToken + ")."
                + again;
        }

        internal void Release(string reason, Action<string, string> report)
        {
            try
            {
                if (Lease != null) Lease.Release(reason);
                report("CANONICAL_MARKET_LOCK_RELEASED", "Run " + RunId + " gave " + Product.Canonical + " back.");
            }
            catch (Unanswered failure)
            {
                report("CANONICAL_MARKET_LOCK_FAILED",
                    "The lease of " + Product.Canonical + " could not be given back (" + failure.Message
                    + "); it ends by itself.");
            }
            finally
            {
                HostLock.Release(reason == "clean");
            }
        }

        /// <summary>Before any robot ran: who comes next must reconcile as this one had to.</summary>
        internal void ReleaseUnused()
        {
            Release(Takeover ? "crashed" : "clean", delegate { });
        }
    }

    internal static class Taking
    {
        internal static Product Resolved(Wanted wanted, Surroundings surroundings)
        {
            Product known = Symbols.Find(wanted.Symbol);
            if (known != null) return known;
            if (wanted.Server == null)
                throw new UnknownInstrument("'" + wanted.Symbol + "' is not an instrument of the registry.");
            string why =
                "'" + wanted.Symbol + "' is no built-in instrument, and " + wanted.Server + " did not resolve it";
            Answer answer;
            try
            {
                answer = surroundings.AuthorityAt(wanted.Server, wanted.ApiKey).Get(
                    "/api/identity/resolve?symbol=" + Uri.EscapeDataString(wanted.Symbol), Authority.RequestTimeout);
            }
            catch (Unanswered failure)
            {
                throw new LockAuthorityUnavailable(why + " (" + failure.Message + ").");
            }
            string execution = Json.Text(answer.Body, "execution_instrument");
            string canonical = Json.Text(answer.Body, "canonical_instrument");
            if (answer.Status == 200 && execution != null && canonical != null)
                return new Product(execution, canonical);
            if (answer.Code == "UNKNOWN_INSTRUMENT") throw new UnknownInstrument(answer.Detail);
            throw new LockAuthorityUnavailable(why + " (" + answer.Detail + ").");
        }

        /// <summary>Host lock first, then lease; throws a GuardError, and then holds neither.</summary>
        internal static HeldMarket TakeMarket(
            Wanted wanted, Product product, Surroundings surroundings, Action<string, string> report)
        {
            Authority authority = wanted.Server == null
                ? null : surroundings.AuthorityAt(wanted.Server, wanted.ApiKey);
            HeldMarket held = new HeldMarket
            {
                RunId = wanted.RunId,
                Product = product,
                HostLock = new HostLock(wanted.Root, product.Canonical, wanted.AllowNetwork),
                KillSwitch = wanted.KillSwitch
            };
            Action<FoundRecord, string> noteStale = delegate(FoundRecord found, string path)
            {
                held.FoundStale = true;
                report("CANONICAL_MARKET_LOCK_STALE",
                    path + " was left behind " + found.Active().Told() + ", which is gone; going on.");
            };
            LockFileRecord record = LockFileRecord.Of(wanted, product);
            try
            {
                held.HostLock.Take(record, noteStale);
            }
            catch (CanonicalMarketAlreadyActive)
            {
                if (authority != null) TellOfRefusal(authority, Request(wanted, product, held.HostLock), surroundings);
                throw;
            }
            try
            {
                if (authority != null)
                {
                    held.Lease = Lease.Acquire(authority, Request(wanted, product, held.HostLock), surroundings);
                    held.Product = new Product(held.Lease.Grant.Execution, product.Canonical);
                }
                held.HostLock.Settle(record.Settled(held.Lease), noteStale);
                string engaged = held.KillSwitch == null ? null : held.KillSwitch.EngagedBecause();
                if (engaged != null) throw new KillSwitchEngaged(engaged);
            }
            catch (Exception)
            {
                held.ReleaseUnused();
                throw;
            }
            report("CANONICAL_MARKET_LOCK_ACQUIRED", held.Sentence());
            return held;
        }

        private static Dictionary<string, object> Request(Wanted wanted, Product product, HostLock hostLock)
        {
            Dictionary<string, object> request = new Dictionary<string, object>();
            request["execution_instrument"] = wanted.Symbol;
            request["canonical_instrument"] = product.Canonical;
            request["run_id"] = wanted.RunId;
            request["nonce"] = Host.Random128();
            request["host"] = Host.Name();
            request["boot_id"] = HostSystem.Current.BootId();
            request["pid"] = Host.ProcessId();
            request["lock_file_path"] = hostLock.RecordPath;
            if (wanted.Account != null) request["account"] = wanted.Account;
            return request;
        }

        /// <summary>Ask the authority too: it says no, and keeps the event that only this host knows of.</summary>
        private static void TellOfRefusal(
            Authority authority, Dictionary<string, object> request, Surroundings surroundings)
        {
            try
            {
                Lease lease = Lease.Acquire(authority, request, surroundings);
                lease.Release(lease.Grant.Takeover ? "crashed" : "clean");
            }
            catch (GuardError)
            {
            }
            catch (Unanswered)
            {
            }
        }
    }

    /// <summary>
    /// Keeping a market that is held: renewing in a thread, and judging at any moment. Who asks with Check()
    /// has the clock read for him: a thread alone loses to a stopped process. Not guaranteed: a process
    /// that is stopped between Check() and its order.
    /// </summary>
    internal sealed class Renewals
    {
        private const double IntactEvery = 5.0;
        private const double SwitchFileEvery = 0.5;

        private readonly Surroundings surroundings;
        private readonly object gate = new object();
        private readonly ManualResetEvent wake = new ManualResetEvent(false);
        private readonly ManualResetEvent over = new ManualResetEvent(false);
        private double renewedAt;
        private string lost;
        private string engagedBecause;
        private bool isOver;
        private Thread thread;

        internal Renewals(HeldMarket held, Surroundings surroundings)
        {
            Held = held;
            this.surroundings = surroundings;
            renewedAt = held.Lease == null ? double.PositiveInfinity : held.Lease.Grant.AskedAt;
        }

        internal HeldMarket Held { get; private set; }

        /// <summary>Called from the renewing thread, once.</summary>
        internal Action<string> OnLost { get; set; }

        /// <summary>Called from the renewing thread, at every change.</summary>
        internal Action<bool> OnKillSwitch { get; set; }

        internal ManualResetEvent Wake
        {
            get { return wake; }
        }

        /// <summary>When to stop trading, by our clock; infinite where no lease bounds it.</summary>
        internal double StopAt
        {
            get { return Held.Lease == null ? double.PositiveInfinity : RenewedAt + Held.Lease.Grant.StopAfter; }
        }

        /// <summary>When to be dead, by our clock.</summary>
        internal double KillAt
        {
            get { return Held.Lease == null ? double.PositiveInfinity : RenewedAt + Held.Lease.Grant.KillAfter; }
        }

        internal bool IsOver
        {
            get { lock (gate) return isOver; }
        }

        private string LostBecause
        {
            get { lock (gate) return lost; }
        }

        private double RenewedAt
        {
            get { lock (gate) return renewedAt; }
        }

        internal void Start()
        {
            thread = surroundings.Start("canonical-guard-renewals", Run);
        }

        /// <summary>Renew no more; a request on its way may still be answered, to nobody.</summary>
        internal void End()
        {
            lock (gate) isOver = true;
            over.Set();
            wake.Set();
            if (thread != null && thread != Thread.CurrentThread) thread.Join(200);
        }

        internal void WaitOver(double seconds)
        {
            surroundings.Wait(over, seconds);
        }

        /// <summary>Throw LeaseLost or KillSwitchEngaged unless orders may be sent at this very moment.</summary>
        internal void Check()
        {
            if (IsOver) throw new LeaseLost("The market is not held any more.");
            Look();
            string why = LostBecause;
            if (why != null) throw new LeaseLost(why);
            string engaged;
            if (Held.KillSwitch != null) engaged = Held.KillSwitch.EngagedBecause();
            else lock (gate) engaged = engagedBecause;
            if (engaged != null) throw new KillSwitchEngaged(engaged);
        }

        /// <summary>It is over for good; the renewing thread tells the listener.</summary>
        private void Lose(string sentence)
        {
            lock (gate)
            {
                if (lost == null) lost = sentence;
            }
            wake.Set();
        }

        private void Run()
        {
            try
            {
                Keep();
            }
            catch (Exception failure)
            {
                Lose("Renewing failed: " + failure + ".");
            }
            try
            {
                if (LostBecause != null && !IsOver && OnLost != null) OnLost(LostBecause);
            }
            catch (Exception)
            {
                // Check() refuses all the same, and this must not end NinjaTrader.
            }
        }

        private void Keep()
        {
            Lease lease = Held.Lease;
            double due = lease == null ? double.PositiveInfinity : lease.Grant.AskedAt + lease.Grant.RenewEvery;
            double lookEvery = Held.KillSwitch == null ? IntactEvery : SwitchFileEvery;
            while (!IsOver)
            {
                Look();
                if (LostBecause != null) return;
                RefreshRecord();
                if (lease != null && surroundings.Now() >= due) due = Renew(lease);
                if (Held.KillSwitch != null) HearKillSwitch(Held.KillSwitch.EngagedBecause());
                double until = Math.Min(Math.Min(due, StopAt), surroundings.Now() + lookEvery);
                surroundings.Wait(wake, Math.Max(until - surroundings.Now(), 0.0));
            }
        }

        /// <summary>Lose what cannot be proved to be held at this moment.</summary>
        private void Look()
        {
            if (LostBecause != null) return;
            if (surroundings.Now() >= StopAt) Lose("No renewal succeeded in time; trading had to stop.");
            else if (!Held.HostLock.IsIntact())
                Lose("The host lock's file was removed or replaced; it excludes nobody any more.");
        }

        /// <summary>One renewal; returns when the next is due.</summary>
        private double Renew(Lease lease)
        {
            Renewal renewal;
            try
            {
                double left = Math.Max(StopAt - surroundings.Now(), 0.001);
                renewal = lease.Renew(Math.Min(Authority.RequestTimeout, left));
            }
            catch (Unanswered)
            {
                return surroundings.Now() + Math.Min(1.0, lease.Grant.RenewEvery / 5.0);
            }
            catch (LeaseLost loss)
            {
                Lose(loss.Message);
                return double.PositiveInfinity;
            }
            // A reply that comes after stop time is too late: the robot was told to stop by then.
            Look();
            if (LostBecause == null && !IsOver)
            {
                lock (gate) renewedAt = renewal.SentAt;
                HearKillSwitch(renewal.KillSwitchActive ? "The kill switch is engaged: no orders." : null);
            }
            return renewal.SentAt + lease.Grant.RenewEvery;
        }

        private void HearKillSwitch(string because)
        {
            bool isChange;
            lock (gate)
            {
                isChange = (because == null) != (engagedBecause == null);
                engagedBecause = because;
            }
            if (isChange && OnKillSwitch != null) OnKillSwitch(because != null);
        }

        private void RefreshRecord()
        {
            try
            {
                Held.HostLock.Refresh();
            }
            catch (CanonicalMarketAlreadyActive refusal)
            {
                Lose("Software that holds no OS lock wrote its own record: " + refusal.Message);
            }
            catch (Exception)
            {
                // The OS lock excludes, not the record; the next pass tries again.
            }
        }
    }

    #endregion

    #region The lease

    /// <summary>The authority's yes. `AskedAt` is our clock before the request was first sent.</summary>
    internal sealed class Grant
    {
        internal string Canonical, Execution, Name, Scope, RunId, Nonce;
        internal long FencingToken;
        internal bool Takeover;
        internal double Ttl, RenewEvery, StopAfter, KillAfter, AskedAt;

        /// <summary>The body of renew and release.</summary>
        internal Dictionary<string, object> Identity()
        {
            Dictionary<string, object> body = new Dictionary<string, object>();
            body["kind"] = "canonical_market";
            body["name"] = Name;
            body["scope"] = Scope;
            body["run_id"] = RunId;
            body["nonce"] = Nonce;
            body["fencing_token"] = FencingToken;
            return body;
        }
    }

    internal sealed class Renewal
    {
        internal double SentAt;
        internal bool KillSwitchActive;
    }

    /// <summary>A tenure in its holder's hands.</summary>
    internal sealed class Lease
    {
        private const int Tries = 2;

        private readonly Authority authority;
        private readonly Surroundings surroundings;

        private Lease(Authority authority, Surroundings surroundings, Grant grant)
        {
            this.authority = authority;
            this.surroundings = surroundings;
            Grant = grant;
        }

        internal Grant Grant { get; private set; }

        /// <summary>Asked again with the same nonce when a reply got lost; time counts from the first
        /// asking. Throws a GuardError for everything that is not a grant.</summary>
        internal static Lease Acquire(
            Authority authority, Dictionary<string, object> request, Surroundings surroundings)
        {
            double askedAt = surroundings.Now();
            string body = Json.Write(request);
            string reason = "";
            for (int tried = 0; tried < Tries; tried++)
            {
                try
                {
                    Answer answer = authority.Post("/api/locks/acquire", body, Authority.RequestTimeout);
                    if (answer.Status < 500 && answer.Status != 429)
                        return new Lease(
                            authority, surroundings, Granted(authority, request, answer, askedAt, surroundings));
                    reason = answer.Detail;
                }
                catch (Unanswered failure)
                {
                    reason = failure.Message;
                    if (!failure.Sent) break;
                }
            }
            throw new LockAuthorityUnavailable(
                "The lock authority at " + authority.Server + " gave no answer that counts (" + reason
                + "); without it nothing is started.");
        }

        /// <summary>Throws LeaseLost when it is over, Unanswered when it may be tried again.</summary>
        internal Renewal Renew(double timeout)
        {
            double sentAt = surroundings.Now();
            Answer answer = authority.Post("/api/locks/renew", Json.Write(Grant.Identity()), timeout);
            if (answer.Status == 429 || answer.Status >= 500 || (answer.Status >= 300 && answer.Status < 400))
                throw new Unanswered(answer.Code + ": " + answer.Detail, true);
            if (answer.Status != 200) throw new LeaseLost("The lease of " + Grant.Name + " is over: " + answer.Detail);
            if (Json.Integer(answer.Body, "fencing_token") != Grant.FencingToken)
                throw new Unanswered("the answer to a renewal names another fencing token or none", true);
            double? ttl = Json.Number(answer.Body, "ttl");
            if (ttl == null || ttl.Value < Grant.Ttl)
                throw new LeaseLost(
                    "The authority renewed " + Grant.Name + " for " + Host.Plain(ttl) + " s, less than the "
                    + Host.Plain(Grant.Ttl) + " s that it granted; that cannot be kept to.");
            return new Renewal { SentAt = sentAt, KillSwitchActive = !Json.IsFalse(answer.Body, "kill_switch_active") };
        }

        /// <summary>Give it back; any plain answer means that there is none left to hold. Throws Unanswered.</summary>
        internal void Release(string reason)
        {
            Dictionary<string, object> body = Grant.Identity();
            body["reason"] = reason;
            string why = "";
            for (int tried = 0; tried < Tries; tried++)
            {
                try
                {
                    Answer answer = authority.Post("/api/locks/release", Json.Write(body), Authority.RequestTimeout);
                    if (answer.Status != 429 && answer.Status < 500) return;
                    why = answer.Detail;
                }
                catch (Unanswered failure)
                {
                    why = failure.Message;
                }
            }
            throw new Unanswered(why, true);
        }

        private static Grant Granted(
            Authority authority, Dictionary<string, object> request, Answer answer, double askedAt,
            Surroundings surroundings)
        {
            if (answer.Status != 200) throw Refusal(authority, request, answer);
            Dictionary<string, object> body = answer.Body;
            long? token = Json.Integer(body, "fencing_token");
            Grant grant = new Grant
            {
                Canonical = Json.Text(body, "canonical_instrument"),
                Execution = Json.Text(body, "execution_instrument"),
                Name = Json.Text(body, "name"),
                Scope = Json.Text(body, "scope"),
                RunId = Json.Text(body, "run_id"),
                Nonce = (string)request["nonce"],
                Takeover = !Json.IsFalse(body, "takeover"),
                AskedAt = askedAt
            };
            if (token == null || token.Value <= 0 || grant.Name == null || grant.Scope == null
                || grant.Execution == null || grant.RunId != (string)request["run_id"]
                || grant.Canonical != (string)request["canonical_instrument"])
                throw new LockAuthorityUnavailable(
                    authority.Server + " answered, but not as a lock authority does; check the address.");
            grant.FencingToken = token.Value;
            ReadTerms(grant, body);
            if (surroundings.Now() >= askedAt + grant.StopAfter)
                throw new LockAuthorityUnavailable(grant.Name + " was granted too late to be used.");
            return grant;
        }

        private static void ReadTerms(Grant grant, Dictionary<string, object> body)
        {
            double? ttl = Json.Number(body, "ttl"), renewEvery = Json.Number(body, "renew_every");
            double? stopAfter = Json.Number(body, "stop_after"), killAfter = Json.Number(body, "kill_after");
            string wrong = null;
            if (ttl == null || renewEvery == null || stopAfter == null || killAfter == null)
                wrong = "a duration is missing";
            else if (!(renewEvery.Value > 0)) wrong = "Lease durations must be greater than zero.";
            else if (renewEvery.Value + 2 * Authority.RequestTimeout > stopAfter.Value)
                wrong = "renew_every (" + Host.Plain(renewEvery) + " s) plus two requests of "
                    + Host.Plain(Authority.RequestTimeout) + " s must fit into stop_after (" + Host.Plain(stopAfter)
                    + " s).";
            else if (!(stopAfter.Value < killAfter.Value && killAfter.Value < ttl.Value))
                wrong = "stop_after (" + Host.Plain(stopAfter) + " s) < kill_after (" + Host.Plain(killAfter)
                    + " s) < ttl (" + Host.Plain(ttl) + " s) does not hold.";
            if (wrong != null)
                throw new LockAuthorityUnavailable("The authority's terms cannot be kept to: " + wrong);
            grant.Ttl = ttl.Value;
            grant.RenewEvery = renewEvery.Value;
            grant.StopAfter = stopAfter.Value;
            grant.KillAfter = killAfter.Value;
        }

        private static GuardError Refusal(Authority authority, Dictionary<string, object> request, Answer answer)
        {
            Dictionary<string, object> body = answer.Body;
            string market = (string)request["canonical_instrument"];
            double? retryAfter = Json.Number(body, "retry_after") ?? answer.RetryAfter;
            switch (answer.Code)
            {
                case "CANONICAL_MARKET_ALREADY_ACTIVE":
                    ActiveRun active = new ActiveRun
                    {
                        RunId = Json.Text(body, "active_run_id"),
                        Host = Json.Text(body, "active_host"),
                        ExecutionInstrument = Json.Text(body, "active_execution_instrument"),
                        Since = Json.Text(body, "active_since"),
                        FencingToken = Json.Integer(body, "fencing_token")
                    };
                    return new CanonicalMarketAlreadyActive(
                        market + " is already executed " + active.Told() + "; nothing was started.", active,
                        retryAfter);
                case "LOCK_DELAY":
                    string wait = retryAfter == null
                        ? "soon" : "in " + Host.Plain(Math.Ceiling(retryAfter.Value)) + " s";
                    return new CanonicalMarketAlreadyActive(
                        market + " was not given back cleanly and stays closed for a while, so that its last holder is "
                        + "surely gone; it is free " + wait + ". Nothing was started.", null, retryAfter);
                case "UNKNOWN_INSTRUMENT":
                    return new UnknownInstrument(answer.Detail);
                case "MAPPING_DRIFT":
                    return new MappingDrift(answer.Detail);
                case "ACCOUNT_REQUIRED":
                    return new InvalidConfiguration(answer.Detail + " Name it in GuardOptions.Account.");
            }
            if (answer.Status == 423 || answer.Code == KillSwitchEngaged.EventName)
                return new KillSwitchEngaged("The kill switch is engaged: " + answer.Detail);
            if (answer.Status == 401 || answer.Status == 403)
                return new LockAuthorityUnavailable(
                    authority.Server + " does not accept the API key for locking (" + answer.Detail + ").");
            return new LockAuthorityUnavailable(
                authority.Server + " did not grant " + market + " (" + answer.Code + ": " + answer.Detail + ").");
        }
    }

    #endregion

    #region HTTP and JSON

    /// <summary>No usable answer came in time; whether the request was done is unknown.</summary>
    internal sealed class Unanswered : Exception
    {
        internal Unanswered(string reason, bool sent) : base(reason)
        {
            Sent = sent;
        }

        /// <summary>False where it certainly never reached the authority.</summary>
        internal bool Sent { get; private set; }
    }

    /// <summary>An HTTP answer; `Body` is empty where it was no JSON object, `RetryAfter` in seconds.</summary>
    internal sealed class Answer
    {
        internal int Status;
        internal Dictionary<string, object> Body = new Dictionary<string, object>();
        internal double? RetryAfter;

        internal string Code
        {
            get
            {
                string code = Json.Text(Body, "code");
                return string.IsNullOrEmpty(code) ? "HTTP_" + Host.Plain(Status) : code;
            }
        }

        internal string Detail
        {
            get
            {
                string said = Json.Text(Body, "detail");
                if (string.IsNullOrEmpty(said)) return "HTTP status " + Host.Plain(Status);
                return said.Length > 500 ? said.Substring(0, 500) : said;
            }
        }
    }

    /// <summary>
    /// The lock authority as a robot's side asks it: small, bounded in time, and doubtful. One connection per
    /// request, shared with nobody; no proxy and no redirection is ever followed, because the key goes along.
    /// </summary>
    internal class Authority
    {
        internal const double RequestTimeout = 2.0;
        private const int MostBytes = 1 << 20;
        // The framework's default of two a host would have one chart's hanging request starve another's.
        private const int MostConnections = 128;

        private readonly string apiKey;
        private readonly string address;

        internal Authority(string server, string apiKey)
        {
            Server = server;
            this.apiKey = apiKey;
            Uri uri;
            if (!IsAscii(server) || !Uri.TryCreate(server, UriKind.Absolute, out uri)
                || (uri.Scheme != "http" && uri.Scheme != "https") || uri.Host.Length == 0
                || uri.UserInfo.Length > 0 || uri.Query.Length > 0 || uri.Fragment.Length > 0)
                throw new InvalidConfiguration(
                    "'" + server + "' is not the address of a server; it looks like http://host:8000.");
            if (apiKey != null && !IsAscii(apiKey))
                throw new InvalidConfiguration("The API key holds characters that no key has.");
            address = uri.GetLeftPart(UriPartial.Path).TrimEnd('/');
            // An old framework's default leaves out what servers demand today; 0 is the system's own choice.
            if (uri.Scheme == "https" && ServicePointManager.SecurityProtocol != 0)
                ServicePointManager.SecurityProtocol |= SecurityProtocolType.Tls12;
        }

        internal string Server { get; private set; }

        /// <summary>POST a JSON text and return the answer, whatever its status. `timeout` is the time for
        /// everything: name, connection, every byte of the answer. Throws Unanswered.</summary>
        internal virtual Answer Post(string path, string body, double timeout)
        {
            return Ask("POST", path, Encoding.UTF8.GetBytes(body), timeout);
        }

        internal virtual Answer Get(string path, double timeout)
        {
            return Ask("GET", path, null, timeout);
        }

        private static bool IsAscii(string text)
        {
            foreach (char letter in text)
                if (letter <= ' ' || letter > '~') return false;
            return text.Length > 0;
        }

        private Answer Ask(string method, string path, byte[] body, double timeout)
        {
            HttpWebRequest request;
            try
            {
                request = Request(method, path, body, timeout);
            }
            catch (Exception failure)
            {
                throw new Unanswered(failure.Message, false);
            }
            Exchange exchange = new Exchange(request, body);
            // A name lookup knows no timeout and the others are per read: only a thread that can be left
            // behind is bounded as a whole.
            Thread thread = new Thread(exchange.Run, Surroundings.StackBytes);
            thread.IsBackground = true;
            thread.Name = "canonical-guard-request";
            thread.Start();
            return exchange.Answered(timeout);
        }

        private HttpWebRequest Request(string method, string path, byte[] body, double timeout)
        {
            HttpWebRequest request = (HttpWebRequest)WebRequest.Create(address + path);
            int milliseconds = Math.Max((int)(timeout * 1000.0), 1);
            request.Method = method;
            request.Proxy = null;
            request.AllowAutoRedirect = false;
            request.KeepAlive = false;
            request.Timeout = milliseconds;
            request.ReadWriteTimeout = milliseconds;
            request.Accept = "application/json";
            request.UserAgent = "canonical_guard";
            request.ServicePoint.ConnectionLimit = MostConnections;
            request.ServicePoint.Expect100Continue = false;
            request.ServicePoint.UseNagleAlgorithm = false;
            if (apiKey != null) request.Headers["Authorization"] = "Api-Key " + apiKey;
            if (body != null)
            {
                request.ContentType = "application/json";
                request.ContentLength = body.Length;
            }
            return request;
        }

        /// <summary>One request and its answer, run in a thread of its own and given up at its deadline.</summary>
        private sealed class Exchange
        {
            private readonly HttpWebRequest request;
            private readonly byte[] body;
            private readonly ManualResetEvent done = new ManualResetEvent(false);
            private volatile bool isGivenUp;
            private Answer answer;
            private Unanswered failure;

            internal Exchange(HttpWebRequest request, byte[] body)
            {
                this.request = request;
                this.body = body;
            }

            internal Answer Answered(double timeout)
            {
                if (!done.WaitOne(Math.Max((int)Math.Ceiling(timeout * 1000.0), 1)))
                {
                    isGivenUp = true;
                    // Left behind in a name lookup: nothing may reach the authority any more.
                    ThreadPool.UnsafeQueueUserWorkItem(delegate { Abort(); }, null);
                    throw new Unanswered("no answer within " + Host.Plain(timeout) + " s", true);
                }
                if (failure != null) throw failure;
                return answer;
            }

            internal void Run()
            {
                try
                {
                    if (body != null)
                        using (Stream stream = request.GetRequestStream())
                        {
                            if (isGivenUp) return;
                            stream.Write(body, 0, body.Length);
                        }
                    using (HttpWebResponse response = Response()) answer = Read(response);
                }
                catch (Unanswered reason)
                {
                    failure = reason;
                }
                catch (WebException reason)
                {
                    failure = new Unanswered(reason.Message, !IsUnsent(reason.Status));
                }
                catch (Exception reason)
                {
                    failure = new Unanswered(reason.Message, true);
                }
                finally
                {
                    done.Set();
                    Abort();
                }
            }

            private static bool IsUnsent(WebExceptionStatus status)
            {
                return status == WebExceptionStatus.ConnectFailure || status == WebExceptionStatus.NameResolutionFailure
                    || status == WebExceptionStatus.TrustFailure || status == WebExceptionStatus.SecureChannelFailure;
            }

            private HttpWebResponse Response()
            {
                try
                {
                    return (HttpWebResponse)request.GetResponse();
                }
                catch (WebException refusal)
                {
                    HttpWebResponse response = refusal.Response as HttpWebResponse;
                    if (response == null) throw;
                    return response;
                }
            }

            private static Answer Read(HttpWebResponse response)
            {
                MemoryStream read = new MemoryStream();
                using (Stream stream = response.GetResponseStream())
                {
                    byte[] buffer = new byte[16384];
                    for (int count; (count = stream.Read(buffer, 0, buffer.Length)) > 0;)
                    {
                        read.Write(buffer, 0, count);
                        if (read.Length > MostBytes)
                            throw new Unanswered("the answer is longer than " + MostBytes + " bytes", true);
                    }
                }
                Answer answer = new Answer { Status = (int)response.StatusCode };
                answer.Body = Json.Object(read.ToArray()) ?? answer.Body;
                double seconds;
                if (double.TryParse(
                        response.Headers["Retry-After"], NumberStyles.Float, CultureInfo.InvariantCulture, out seconds)
                    && seconds >= 0 && seconds < 86400)
                    answer.RetryAfter = seconds;
                return answer;
            }

            private void Abort()
            {
                try
                {
                    request.Abort();
                }
                catch (Exception)
                {
                    // It is over either way.
                }
            }
        }
    }

    /// <summary>JSON as the protocol needs it: strict, bounded in depth, integers exact.</summary>
    internal static class Json
    {
        private const int MostDepth = 64;
        private const int MostWritten = 1 << 20;

        /// <summary>The object in these bytes, or null where there is none.</summary>
        internal static Dictionary<string, object> Object(byte[] raw)
        {
            try
            {
                string text = new UTF8Encoding(false, true).GetString(raw).TrimStart('\uFEFF');
                return Parse(text) as Dictionary<string, object>;
            }
            catch (Exception)
            {
                return null;
            }
        }

        /// <summary>Dictionary, List, string, bool, long, double or null; throws FormatException.</summary>
        internal static object Parse(string text)
        {
            return new Reader(text).Document();
        }

        internal static string Write(object value)
        {
            StringBuilder text = new StringBuilder();
            Append(text, value, 0);
            return text.ToString();
        }

        internal static string Text(Dictionary<string, object> body, string name)
        {
            object value;
            return body.TryGetValue(name, out value) ? value as string : null;
        }

        internal static long? Integer(Dictionary<string, object> body, string name)
        {
            object value;
            return body.TryGetValue(name, out value) && value is long ? (long?)(long)value : null;
        }

        /// <summary>A finite number, or null.</summary>
        internal static double? Number(Dictionary<string, object> body, string name)
        {
            object value;
            if (!body.TryGetValue(name, out value)) return null;
            if (value is long) return (long)value;
            return value is double ? (double?)(double)value : null;
        }

        internal static bool IsFalse(Dictionary<string, object> body, string name)
        {
            object value;
            return body.TryGetValue(name, out value) && value is bool && !(bool)value;
        }

        /// <summary>Throws FormatException for what has no end: lists that hold themselves, or make up items.</summary>
        private static void Append(StringBuilder text, object value, int depth)
        {
            if (depth > MostDepth || text.Length > MostWritten) throw new FormatException("it has no end");
            if (value == null) text.Append("null");
            else if (value is string) AppendText(text, (string)value);
            else if (value is bool) text.Append((bool)value ? "true" : "false");
            else if (value is double || value is float)
                AppendNumber(text, Convert.ToDouble(value, CultureInfo.InvariantCulture));
            else if (value is IDictionary)
            {
                string separator = "{";
                foreach (DictionaryEntry entry in (IDictionary)value)
                {
                    text.Append(separator);
                    AppendText(text, (string)entry.Key);
                    text.Append(": ");
                    Append(text, entry.Value, depth + 1);
                    separator = ", ";
                }
                text.Append(separator == "{" ? "{}" : "}");
            }
            else if (value is IEnumerable)
            {
                string separator = "[";
                foreach (object item in (IEnumerable)value)
                {
                    text.Append(separator);
                    Append(text, item, depth + 1);
                    separator = ", ";
                }
                text.Append(separator == "[" ? "[]" : "]");
            }
            else if (value is IFormattable && value.GetType().IsPrimitive)
                text.Append(((IFormattable)value).ToString(null, CultureInfo.InvariantCulture));
            else AppendText(text, Convert.ToString(value, CultureInfo.InvariantCulture));
        }

        private static void AppendNumber(StringBuilder text, double value)
        {
            // JSON has no word for infinity.
            if (double.IsNaN(value) || double.IsInfinity(value)) text.Append("null");
            else text.Append(value.ToString("R", CultureInfo.InvariantCulture));
        }

        private static void AppendText(StringBuilder text, string value)
        {
            text.Append('"');
            foreach (char letter in value)
            {
                if (letter == '"' || letter == '\\') text.Append('\\').Append(letter);
                else if (letter >= ' ' && letter <= '~') text.Append(letter);
                else text.Append("\\u").Append(((int)letter).ToString("x4", CultureInfo.InvariantCulture));
            }
            text.Append('"');
        }

        private sealed class Reader
        {
            private static readonly Regex Numeral = new Regex(@"\G-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?");

            private readonly string text;
            private int at;
            private int depth;

            internal Reader(string text)
            {
                this.text = text;
            }

            internal object Document()
            {
                object value = Value();
                SkipSpace();
                if (at < text.Length) throw Wrong();
                return value;
            }

            private object Value()
            {
                SkipSpace();
                if (at >= text.Length) throw Wrong();
                switch (text[at])
                {
                    case '{': return Members();
                    case '[': return Items();
                    case '"': return Characters();
                    case 't': return Word("true", true);
                    case 'f': return Word("false", false);
                    case 'n': return Word("null", null);
                    default: return Figure();
                }
            }

            private Dictionary<string, object> Members()
            {
                Dictionary<string, object> found = new Dictionary<string, object>();
                Open();
                if (Closes('}')) return found;
                do
                {
                    SkipSpace();
                    string name = Characters();
                    Expect(':');
                    found[name] = Value();
                }
                while (GoesOn('}'));
                return found;
            }

            private List<object> Items()
            {
                List<object> found = new List<object>();
                Open();
                if (Closes(']')) return found;
                do found.Add(Value());
                while (GoesOn(']'));
                return found;
            }

            private void Open()
            {
                at++;
                if (++depth > MostDepth) throw Wrong();
            }

            private bool Closes(char end)
            {
                SkipSpace();
                if (at >= text.Length || text[at] != end) return false;
                at++;
                depth--;
                return true;
            }

            private bool GoesOn(char end)
            {
                if (Closes(end)) return false;
                Expect(',');
                return true;
            }

            private void Expect(char letter)
            {
                SkipSpace();
                if (at >= text.Length || text[at] != letter) throw Wrong();
                at++;
            }

            private string Characters()
            {
                Expect('"');
                StringBuilder found = new StringBuilder();
                while (true)
                {
                    if (at >= text.Length || text[at] < ' ') throw Wrong();
                    char letter = text[at++];
                    if (letter == '"') return found.ToString();
                    found.Append(letter == '\\' ? Escaped() : letter);
                }
            }

            private char Escaped()
            {
                if (at >= text.Length) throw Wrong();
                char letter = text[at++];
                switch (letter)
                {
                    case '"': case '\\': case '/': return letter;
                    case 'b': return '\b';
                    case 'f': return '\f';
                    case 'n': return '\n';
                    case 'r': return '\r';
                    case 't': return '\t';
                    case 'u': break;
                    default: throw Wrong();
                }
                if (at + 4 > text.Length) throw Wrong();
                int code;
                string digits = text.Substring(at, 4);
                if (!int.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out code))
                    throw Wrong();
                at += 4;
                return (char)code;
            }

            private object Word(string word, object value)
            {
                if (string.CompareOrdinal(text, at, word, 0, word.Length) != 0) throw Wrong();
                at += word.Length;
                return value;
            }

            private object Figure()
            {
                Match match = Numeral.Match(text, at);
                if (!match.Success) throw Wrong();
                at += match.Length;
                long whole;
                CultureInfo plain = CultureInfo.InvariantCulture;
                if (!match.Groups[2].Success && !match.Groups[3].Success
                    && long.TryParse(match.Value, NumberStyles.AllowLeadingSign, plain, out whole))
                    return whole;
                double number;
                if (!double.TryParse(match.Value, NumberStyles.Float, plain, out number) || double.IsInfinity(number))
                    throw Wrong();
                return number;
            }

            private void SkipSpace()
            {
                while (at < text.Length && " \t\n\r".IndexOf(text[at]) >= 0) at++;
            }

            private FormatException Wrong()
            {
                return new FormatException("This is no JSON from character " + at + " on.");
            }
        }
    }

    #endregion

    #region Symbols

    /// <summary>An execution instrument and its canonical one: MES and ES.</summary>
    internal sealed class Product
    {
        internal Product(string execution, string canonical)
        {
            Execution = execution;
            Canonical = canonical;
        }

        internal string Execution { get; private set; }

        internal string Canonical { get; private set; }
    }

    /// <summary>Which product a symbol names. The table is canonical_guard/instruments.csv's; a test holds them
    /// together. What it lacks, the server is asked for.</summary>
    internal static class Symbols
    {
        // canonical:execution,execution,...
        private const string Table =
            "ES:ES,MES NQ:NQ,MNQ RTY:RTY,M2K YM:YM,MYM EMD:EMD NKD:NKD NIY:NIY CL:CL,QM,MCL NG:NG,QG,MNG RB:RB HO:HO "
            + "BZ:BZ GC:GC,QO,MGC SI:SI,QI,SIL HG:HG,QC,MHG PL:PL PA:PA 6E:6E,E7,M6E 6B:6B,M6B 6J:6J,J7,MJY 6A:6A,M6A "
            + "6C:6C,MCD 6S:6S,MSF 6N:6N 6M:6M 6L:6L 6Z:6Z ZB:ZB UB:UB,MWN ZN:ZN TN:TN,MTN ZF:ZF ZT:ZT SR3:SR3 "
            + "SR1:SR1 ZQ:ZQ 2YY:2YY 5YY:5YY 10Y:10Y 30Y:30Y BTC:BTC,MBT ETH:ETH,MET SOL:SOL,MSL XRP:XRP,MXP";

        private const int MostLength = 64;
        private static readonly Dictionary<string, string> CanonicalOf = ReadTable();
        private static readonly Regex Prefix = Pattern(@"^(?:/|[A-Z0-9_]{1,24}:)");
        private static readonly Regex[] Notations =
        {
            Pattern(@"^([A-Z0-9]{1,8}) (?:0[1-9]|1[0-2])-[0-9]{2}\z"),
            Pattern(@"^([A-Z0-9]{1,8})[FGHJKMNQUVXZ](?:20[0-9]{2}|[0-9]{1,2})\z"),
            // A product may end in a digit, so both lengths of the number are tried.
            Pattern(@"^([A-Z0-9]{1,8})[1-9]!\z"),
            Pattern(@"^([A-Z0-9]{1,8})[1-9][0-9]!\z")
        };

        internal static bool IsCanonical(string symbol)
        {
            return CanonicalOf.ContainsValue(symbol);
        }

        /// <summary>Upper case, trimmed, inner white space folded to one blank.</summary>
        internal static string Normalise(string symbol)
        {
            const StringSplitOptions folded = StringSplitOptions.RemoveEmptyEntries;
            return string.Join(" ", symbol.ToUpperInvariant().Split((char[])null, folded));
        }

        /// <summary>The product a symbol names in any notation, or null: it is never guessed.</summary>
        internal static Product Find(string symbol)
        {
            string text = Normalise(symbol);
            if (text.Length == 0 || text.Length > MostLength) return null;
            foreach (char letter in symbol)
                if (letter > '~' && !char.IsWhiteSpace(letter)) return null;
            string bare = Prefix.Replace(text, "", 1);
            if (bare.EndsWith("=F", StringComparison.Ordinal)) bare = bare.Substring(0, bare.Length - 2);
            if (CanonicalOf.ContainsKey(bare)) return new Product(bare, CanonicalOf[bare]);
            Product found = null;
            foreach (Regex notation in Notations)
            {
                Match match = notation.Match(bare);
                if (!match.Success || !CanonicalOf.ContainsKey(match.Groups[1].Value)) continue;
                // It can mean two products.
                if (found != null) return null;
                found = new Product(match.Groups[1].Value, CanonicalOf[match.Groups[1].Value]);
            }
            return found;
        }

        private static Regex Pattern(string pattern)
        {
            return new Regex(pattern, RegexOptions.CultureInvariant);
        }

        private static Dictionary<string, string> ReadTable()
        {
            Dictionary<string, string> found = new Dictionary<string, string>();
            foreach (string market in Table.Split(' '))
            {
                string[] parts = market.Split(':');
                foreach (string execution in parts[1].Split(',')) found[execution] = parts[0];
            }
            return found;
        }
    }

    #endregion

    #region The host lock

    /// <summary>The readable record beside the OS lock, as this run writes it.</summary>
    internal sealed class LockFileRecord
    {
        private readonly Dictionary<string, object> fields;

        private LockFileRecord(Dictionary<string, object> fields)
        {
            this.fields = fields;
        }

        internal string RunId
        {
            get { return (string)fields["run_id"]; }
        }

        internal string Account
        {
            get { return (string)fields["account"]; }
        }

        /// <summary>Null until the authority has said it.</summary>
        internal string Scope
        {
            get { return (string)fields["scope"]; }
        }

        internal static LockFileRecord Of(Wanted wanted, Product product)
        {
            Dictionary<string, object> fields = new Dictionary<string, object>();
            fields["run_id"] = wanted.RunId;
            fields["acquired_at_utc"] =
                DateTime.UtcNow.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'+00:00'", CultureInfo.InvariantCulture);
            fields["canonical_instrument"] = product.Canonical;
            fields["execution_instrument"] = product.Execution;
            fields["pid"] = Host.ProcessId();
            fields["process_start_time"] = HostSystem.Current.ProcessStartTime();
            fields["boot_id"] = HostSystem.Current.BootId();
            fields["host"] = Host.Name();
            fields["account"] = wanted.Account;
            fields["scope"] = null;
            fields["fencing_token"] = null;
            fields["protocol"] = 2;
            return new LockFileRecord(fields);
        }

        internal LockFileRecord Settled(Lease lease)
        {
            Dictionary<string, object> settled = new Dictionary<string, object>(fields);
            settled["scope"] = lease == null ? "" : lease.Grant.Scope;
            if (lease != null)
            {
                settled["execution_instrument"] = lease.Grant.Execution;
                settled["fencing_token"] = lease.Grant.FencingToken;
            }
            return new LockFileRecord(settled);
        }

        internal byte[] Encode()
        {
            List<string> lines = new List<string>();
            foreach (KeyValuePair<string, object> field in fields)
                lines.Add("  " + Json.Write(field.Key) + ": " + Json.Write(field.Value));
            return Encoding.ASCII.GetBytes("{\n" + string.Join(",\n", lines.ToArray()) + "\n}\n");
        }
    }

    /// <summary>What lies at a record's path: its fields where it is readable, its age in seconds.</summary>
    internal sealed class FoundRecord
    {
        private const int MostBytes = 65536;
        private const double LegacyActiveSeconds = 600.0;
        private const int MostLength = 200;

        internal Dictionary<string, object> Fields = new Dictionary<string, object>();
        internal double Age;

        /// <summary>Written by a guard that holds the OS lock while it lives.</summary>
        internal bool IsByProtocol
        {
            get { return Json.Integer(Fields, "protocol") != null; }
        }

        /// <summary>Its writer holds the OS lock and still waits for the authority to say the scope.</summary>
        internal bool IsUndecided
        {
            get { return IsByProtocol && Json.Text(Fields, "scope") == null; }
        }

        /// <summary>Whether to stay away although nobody holds the OS lock: older software holds none, and
        /// all there is to go by is the age of its file.</summary>
        internal bool CountsAsActive
        {
            get { return !IsByProtocol && Age < LegacyActiveSeconds; }
        }

        /// <summary>Null where nothing lies there.</summary>
        internal static FoundRecord At(string path)
        {
            FoundFile found = HostSystem.Current.Look(path);
            if (found == null) return null;
            FoundRecord record = new FoundRecord();
            record.Age = (DateTime.UtcNow - found.ModifiedUtc).TotalSeconds;
            if (!found.IsRegular) return record;
            try
            {
                byte[] raw = HostSystem.Current.Read(path, MostBytes + 1);
                if (raw.Length <= MostBytes) record.Fields = Json.Object(raw) ?? record.Fields;
            }
            catch (Exception)
            {
                // Unreadable is what it is taken for.
            }
            return record;
        }

        internal ActiveRun Active()
        {
            return new ActiveRun
            {
                RunId = Told("run_id"),
                Host = Told("host"),
                ExecutionInstrument = Told("execution_instrument"),
                Since = Told("acquired_at_utc"),
                FencingToken = Json.Integer(Fields, "fencing_token")
            };
        }

        internal string Told(string name)
        {
            string value = Json.Text(Fields, name);
            if (string.IsNullOrEmpty(value)) return null;
            return value.Length > MostLength ? value.Substring(0, MostLength) : value;
        }
    }

    /// <summary>One market's lock below one project root: Take, then Settle, at last Release.</summary>
    internal sealed class HostLock
    {
        private const int Tries = 5;
        private const int PauseMilliseconds = 30;
        private const double ScopeKnownWithin = 6.0;
        private const int LongestName = 120;

        private readonly object gate = new object();
        private readonly string folder;
        private readonly string market;
        private readonly bool allowNetwork;
        private string name;
        private OsLock held;
        private LockFileRecord record;

        internal HostLock(string root, string market, bool allowNetwork)
        {
            folder = Path.Combine(root, "runtime_locks");
            this.market = market;
            this.allowNetwork = allowNetwork;
            name = Safe(market);
        }

        /// <summary>After Take: whether the last holder on this host crashed, or was killed.</summary>
        internal bool LeftUncleanly { get; private set; }

        internal string RecordPath
        {
            get { lock (gate) return RecordOf(name); }
        }

        /// <summary>Throws CanonicalMarketAlreadyActive where another holds it, LockAuthorityUnavailable where
        /// nobody can tell; then nothing is held.</summary>
        internal void Take(LockFileRecord asked, Action<FoundRecord, string> noteStale)
        {
            try
            {
                PrepareFolder();
                held = Locked(name, asked.Account != null);
                TakeRecord(held, name, asked, noteStale);
            }
            catch (GuardError)
            {
                Release(false);
                throw;
            }
            catch (Exception failure)
            {
                Release(false);
                throw Unavailable(failure);
            }
        }

        /// <summary>Write down what the authority granted; for a scope, go on with that account's lock. Throws
        /// like Take; the caller then releases.</summary>
        internal void Settle(LockFileRecord settled, Action<FoundRecord, string> noteStale)
        {
            try
            {
                if (settled.Scope.Length > 0)
                {
                    Narrow(settled, noteStale);
                }
                else
                {
                    RefuseBesideAccounts();
                    lock (gate) Write(settled);
                }
            }
            catch (GuardError)
            {
                throw;
            }
            catch (Exception failure)
            {
                throw Unavailable(failure);
            }
        }

        internal bool IsIntact()
        {
            lock (gate) return held != null && held.IsIntact();
        }

        /// <summary>Renew the record's time, and the record where it is missing or unreadable. Throws
        /// CanonicalMarketAlreadyActive where another run's record has taken its place.</summary>
        internal void Refresh()
        {
            lock (gate)
            {
                if (record == null) return;
                string path = RecordOf(name);
                FoundRecord found = FoundRecord.At(path);
                if (found != null && Json.Text(found.Fields, "run_id") == record.RunId) HostSystem.Current.Touch(path);
                else if (found != null && found.Told("run_id") != null) throw AlreadyActive(found, null);
                else HostSystem.Current.Put(path, record.Encode());
            }
        }

        /// <summary>Remove the record, then let others in; again and again. Never throws.</summary>
        internal void Release(bool clean)
        {
            lock (gate)
            {
                OsLock was = held;
                held = null;
                if (was == null) return;
                string runId = record == null ? null : record.RunId;
                record = null;
                GiveUp(was, RecordOf(name), runId, clean);
            }
        }

        /// <summary>`ES` or `ES@ACCOUNT`, safe as a part of a file name: distinct inputs give distinct names.</summary>
        internal static string LockName(string market, string scope)
        {
            return Safe(market) + (scope.Length == 0 ? "" : "@" + Safe(scope));
        }

        private static string Safe(string text)
        {
            StringBuilder safe = new StringBuilder();
            byte[] raw = Encoding.UTF8.GetBytes(text);
            foreach (byte one in raw)
            {
                char letter = (char)one;
                bool isPlain = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z')
                    || (letter >= '0' && letter <= '9') || "_.-~".IndexOf(letter) >= 0;
                if (isPlain) safe.Append(letter);
                else safe.Append('%').Append(one.ToString("X2", CultureInfo.InvariantCulture));
            }
            if (safe.Length <= LongestName) return safe.ToString();
            string digest;
            using (SHA256 hash = SHA256.Create()) digest = Host.Hex(hash.ComputeHash(raw));
            return safe.ToString(0, LongestName - 25) + "~" + digest.Substring(0, 24);
        }

        private static void GiveUp(OsLock was, string recordPath, string runId, bool clean)
        {
            try
            {
                if (runId != null && was.IsIntact())
                {
                    if (clean) was.Unmark();
                    FoundRecord found = FoundRecord.At(recordPath);
                    if (found != null && Json.Text(found.Fields, "run_id") == runId) File.Delete(recordPath);
                }
            }
            catch (Exception)
            {
                // A record that stays is stale to the next holder.
            }
            finally
            {
                was.Unlock();
            }
        }

        private void PrepareFolder()
        {
            Directory.CreateDirectory(folder);
            if (allowNetwork) return;
            const string hint =
                "set WATCHDOG_ALLOW_NETWORK_FILE_SYSTEM=1 if its locks are known to exclude other hosts";
            string kind;
            try
            {
                kind = HostSystem.Current.NetworkFileSystem(folder);
            }
            catch (Exception failure)
            {
                throw new LockAuthorityUnavailable(
                    "Whether " + folder + " is on a network file system cannot be told (" + failure.Message
                    + "); choose another project root, or " + hint + ".");
            }
            if (kind != null)
                throw new LockAuthorityUnavailable(
                    folder + " is on a network file system (" + kind + "), where a lock may exclude nobody; choose a "
                    + "project root on a local disk, or " + hint + ".");
        }

        /// <summary>The sidecar of `which`, locked and in its place.</summary>
        private OsLock Locked(string which, bool isPatient)
        {
            Stopwatch waited = Stopwatch.StartNew();
            for (int tried = 1; ; tried++)
            {
                OsLock found = HostSystem.Current.Open(SidecarOf(which), true);
                try
                {
                    // Between open and lock somebody may have put another file in its place.
                    if (found.Take() && found.IsIntact()) return found;
                }
                catch (Exception)
                {
                    found.Close();
                    throw;
                }
                found.Close();
                FoundRecord holder = FoundRecord.At(RecordOf(which));
                bool waits = isPatient && holder != null && holder.IsUndecided
                    && waited.Elapsed.TotalSeconds < ScopeKnownWithin;
                // `status` asks with a lock of a moment, and a holder may be about to write its record.
                if (tried >= Tries && !waits) throw AlreadyActive(holder, null);
                Thread.Sleep(PauseMilliseconds);
            }
        }

        private void TakeRecord(OsLock taken, string which, LockFileRecord asked, Action<FoundRecord, string> noteStale)
        {
            string path = RecordOf(which);
            FoundRecord found = FoundRecord.At(path);
            if (found != null)
            {
                if (found.CountsAsActive) throw AlreadyActive(found, path);
                noteStale(found, path);
            }
            lock (gate)
            {
                LeftUncleanly = found != null || taken.IsMarked();
                name = which;
                Write(asked);
                taken.Mark();
            }
        }

        private void Write(LockFileRecord fresh)
        {
            HostSystem.Current.Put(RecordOf(name), fresh.Encode());
            record = fresh;
        }

        /// <summary>From the whole market's lock to one account's; never without one of the two.</summary>
        private void Narrow(LockFileRecord settled, Action<FoundRecord, string> noteStale)
        {
            OsLock whole = held;
            string wholeRecord = RecordOf(name), wholeName = name;
            LockFileRecord wholesOwn = record;
            string narrowName = LockName(market, settled.Scope);
            OsLock narrow = Locked(narrowName, false);
            try
            {
                TakeRecord(narrow, narrowName, settled, noteStale);
            }
            catch (Exception)
            {
                narrow.Unlock();
                lock (gate)
                {
                    name = wholeName;
                    record = wholesOwn;
                }
                throw;
            }
            lock (gate) held = narrow;
            GiveUp(whole, wholeRecord, settled.RunId, true);
        }

        /// <summary>A market that is exclusive everywhere does not start beside one account's run of it.</summary>
        private void RefuseBesideAccounts()
        {
            string prefix = ".canonical_" + name + "@";
            foreach (string path in Directory.GetFiles(folder))
            {
                string file = Path.GetFileName(path);
                if (!file.StartsWith(prefix, StringComparison.Ordinal)
                    || !file.EndsWith(".guard", StringComparison.Ordinal)) continue;
                OsLock other = HostSystem.Current.Open(path, false);
                if (other == null) continue;
                bool isHeld = other.IsHeldElsewhere();
                other.Close();
                const int before = 11, after = 6;
                if (isHeld)
                    throw AlreadyActive(
                        FoundRecord.At(RecordOf(file.Substring(before, file.Length - before - after))), null);
            }
        }

        private CanonicalMarketAlreadyActive AlreadyActive(FoundRecord found, string legacy)
        {
            ActiveRun active = found == null ? new ActiveRun() : found.Active();
            string message = market + " is already executed on this host " + active.Told();
            if (legacy != null)
                message = legacy + " was written " + Host.Plain(Math.Round(Math.Max(found.Age, 0)))
                    + " s ago by software that holds no OS lock, so " + market + " counts as executed " + active.Told()
                    + "; stop it, or wait until the file is 10 minutes old";
            return new CanonicalMarketAlreadyActive(message + "; nothing was started.", active, null);
        }

        private LockAuthorityUnavailable Unavailable(Exception failure)
        {
            return new LockAuthorityUnavailable(
                "The host lock of " + market + " below " + folder + " cannot be taken (" + failure.Message
                + "); make that folder usable or choose another with GuardOptions.ProjectRoot.");
        }

        private string RecordOf(string which)
        {
            return Path.Combine(folder, "canonical_" + which + ".lock");
        }

        private string SidecarOf(string which)
        {
            return Path.Combine(folder, ".canonical_" + which + ".guard");
        }
    }

    #endregion

    #region What the operating system does

    internal static class Host
    {
        /// <summary>As the Python guard tells it, so that both are seen to be on one host.</summary>
        internal static string Name()
        {
            try
            {
                return Dns.GetHostName();
            }
            catch (Exception)
            {
                return Environment.MachineName;
            }
        }

        internal static int ProcessId()
        {
            using (Process own = Process.GetCurrentProcess()) return own.Id;
        }

        internal static string Random128()
        {
            byte[] random = new byte[16];
            using (RandomNumberGenerator source = RandomNumberGenerator.Create()) source.GetBytes(random);
            return Hex(random);
        }

        internal static string Hex(byte[] raw)
        {
            StringBuilder text = new StringBuilder();
            foreach (byte one in raw) text.Append(one.ToString("x2", CultureInfo.InvariantCulture));
            return text.ToString();
        }

        internal static string Plain(double? number)
        {
            return number == null ? "no" : number.Value.ToString("0.###", CultureInfo.InvariantCulture);
        }
    }

    internal sealed class FoundFile
    {
        internal bool IsRegular;
        internal DateTime ModifiedUtc;
    }

    /// <summary>The lock that excludes, on a file that is never deleted.</summary>
    internal abstract class OsLock
    {
        /// <summary>Lock it now; false where somebody else holds it.</summary>
        internal abstract bool Take();

        internal abstract bool IsHeldElsewhere();

        /// <summary>Whether the path still names the very file that is locked; never throws.</summary>
        internal abstract bool IsIntact();

        /// <summary>Whether the last holder left its mark in the file: it did not leave cleanly.</summary>
        internal abstract bool IsMarked();

        internal abstract void Mark();

        internal abstract void Unmark();

        /// <summary>Let others in, and close; never throws.</summary>
        internal abstract void Unlock();

        internal abstract void Close();
    }

    internal abstract class HostSystem
    {
        internal static readonly HostSystem Current = Chosen();

        internal static readonly byte[] HeldMark = { (byte)'h', (byte)'e', (byte)'l', (byte)'d', (byte)'\n' };

        internal abstract double Now();

        internal abstract string BootId();

        internal abstract long? ProcessStartTime();

        internal abstract string DefaultRoot();

        /// <summary>The type of the network file system that a folder lies on; null where it is local.</summary>
        internal abstract string NetworkFileSystem(string folder);

        /// <summary>A sidecar, made where it is missing if `create`; else null then.</summary>
        internal abstract OsLock Open(string path, bool create);

        /// <summary>Without following a link; null where nothing is.</summary>
        internal abstract FoundFile Look(string path);

        /// <summary>The first bytes of a file, which is never a link's target.</summary>
        internal abstract byte[] Read(string path, int most);

        /// <summary>Put a file in place in one step.</summary>
        internal abstract void Put(string path, byte[] content);

        internal abstract void Touch(string path);

        private static HostSystem Chosen()
        {
            if (Environment.OSVersion.Platform == PlatformID.Win32NT) return new WindowsSystem();
            if (Directory.Exists("/proc/self")) return new LinuxSystem();
            throw new InvalidConfiguration("This guard knows Windows and Linux, not this system.");
        }

        internal static byte[] ReadUpTo(Stream stream, int most)
        {
            byte[] buffer = new byte[most];
            int filled = 0;
            for (int count; filled < most && (count = stream.Read(buffer, filled, most - filled)) > 0;) filled += count;
            Array.Resize(ref buffer, filled);
            return buffer;
        }
    }

    internal sealed class WindowsSystem : HostSystem
    {
        private const int ReplaceExisting = 1;
        private const int DriveRemote = 4;
        private const int Tries = 5;

        [DllImport("kernel32.dll")]
        private static extern ulong GetTickCount64();

        [DllImport("kernel32.dll", CharSet = CharSet.Unicode, SetLastError = true)]
        private static extern bool MoveFileExW(string from, string to, int flags);

        [DllImport("kernel32.dll", CharSet = CharSet.Unicode)]
        private static extern int GetDriveTypeW(string root);

        internal override double Now()
        {
            return GetTickCount64() / 1000.0;
        }

        internal override string BootId()
        {
            return "";
        }

        internal override long? ProcessStartTime()
        {
            return null;
        }

        internal override string DefaultRoot()
        {
            string data = Environment.GetEnvironmentVariable("PROGRAMDATA");
            return Path.Combine(string.IsNullOrEmpty(data) ? @"C:\ProgramData" : data, "Watchdog");
        }

        internal override string NetworkFileSystem(string folder)
        {
            const StringComparison exactly = StringComparison.Ordinal;
            if (folder.StartsWith(@"\\", exactly) && !folder.StartsWith(@"\\?\", exactly)) return "network share";
            return GetDriveTypeW(Path.GetPathRoot(folder)) == DriveRemote ? "network drive" : null;
        }

        internal override OsLock Open(string path, bool create)
        {
            FoundFile found = Look(path);
            if (found == null && !create) return null;
            if (found != null && !found.IsRegular) throw new IOException("not a regular file: " + path);
            // Not FileShare.Delete: while it is open nobody can put another file in its place.
            return new WindowsLock(
                path, new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.ReadWrite, 1));
        }

        internal override FoundFile Look(string path)
        {
            FileSystemInfo found = new FileInfo(path);
            if (!found.Exists) found = new DirectoryInfo(path);
            if (!found.Exists) return null;
            const FileAttributes special =
                FileAttributes.Directory | FileAttributes.ReparsePoint | FileAttributes.Device;
            return new FoundFile
            {
                IsRegular = (found.Attributes & special) == 0,
                ModifiedUtc = found.LastWriteTimeUtc
            };
        }

        internal override byte[] Read(string path, int most)
        {
            const FileShare others = FileShare.ReadWrite | FileShare.Delete;
            using (FileStream stream = new FileStream(path, FileMode.Open, FileAccess.Read, others))
                return ReadUpTo(stream, most);
        }

        internal override void Put(string path, byte[] content)
        {
            string fresh = Path.Combine(Path.GetDirectoryName(path), "." + Path.GetFileName(path) + ".new");
            File.Delete(fresh);
            try
            {
                using (FileStream stream = new FileStream(fresh, FileMode.CreateNew, FileAccess.Write, FileShare.None))
                    stream.Write(content, 0, content.Length);
                // Whoever reads the old one, a virus scanner say, keeps it from being replaced for a moment.
                for (int tried = 1; !MoveFileExW(fresh, path, ReplaceExisting); tried++)
                {
                    if (tried == Tries) Marshal.ThrowExceptionForHR(Marshal.GetHRForLastWin32Error());
                    Thread.Sleep(20);
                }
            }
            catch (Exception)
            {
                File.Delete(fresh);
                throw;
            }
        }

        internal override void Touch(string path)
        {
            File.SetLastWriteTimeUtc(path, DateTime.UtcNow);
        }

        /// <summary>
        /// The guard locks the byte at 2^30 and a keeper the byte behind it, far behind the content, because a
        /// locked byte cannot be written by anybody else. Who takes the market must get both, and keeps the first.
        /// </summary>
        private sealed class WindowsLock : OsLock
        {
            private const long GuardsByte = 1L << 30, KeepersByte = GuardsByte + 1;
            private const int BackupSemantics = 0x02000000, OpenReparsePoint = 0x00200000;
            private const int OpenExisting = 3, ShareAll = 7;
            private const int LockViolation = unchecked((int)0x80070021);

            private readonly string path;
            private readonly FileStream stream;

            internal WindowsLock(string path, FileStream stream)
            {
                this.path = path;
                this.stream = stream;
            }

            [DllImport("kernel32.dll", CharSet = CharSet.Unicode, SetLastError = true)]
            private static extern SafeFileHandle CreateFileW(
                string path, int access, int share, IntPtr security, int disposition, int flags, IntPtr template);

            [DllImport("kernel32.dll", SetLastError = true)]
            private static extern bool GetFileInformationByHandle(SafeFileHandle file, [Out] byte[] information);

            internal override bool Take()
            {
                if (!LockByte(GuardsByte)) return false;
                if (LockByte(KeepersByte))
                {
                    stream.Unlock(KeepersByte, 1);
                    return true;
                }
                stream.Unlock(GuardsByte, 1);
                return false;
            }

            internal override bool IsHeldElsewhere()
            {
                if (!Take()) return true;
                stream.Unlock(GuardsByte, 1);
                return false;
            }

            internal override bool IsIntact()
            {
                try
                {
                    using (SafeFileHandle there = CreateFileW(
                        path, 0, ShareAll, IntPtr.Zero, OpenExisting, BackupSemantics | OpenReparsePoint, IntPtr.Zero))
                        return !there.IsInvalid && Identity(stream.SafeFileHandle) == Identity(there);
                }
                catch (Exception)
                {
                    return false;
                }
            }

            internal override bool IsMarked()
            {
                return stream.Length > 0;
            }

            internal override void Mark()
            {
                stream.Position = 0;
                stream.Write(HeldMark, 0, HeldMark.Length);
                stream.Flush();
            }

            internal override void Unmark()
            {
                stream.SetLength(0);
            }

            internal override void Unlock()
            {
                try
                {
                    stream.Unlock(GuardsByte, 1);
                }
                catch (Exception)
                {
                    // Closed is unlocked too.
                }
                Close();
            }

            internal override void Close()
            {
                stream.Dispose();
            }

            private bool LockByte(long offset)
            {
                try
                {
                    stream.Lock(offset, 1);
                    return true;
                }
                catch (IOException failure)
                {
                    if (Marshal.GetHRForException(failure) == LockViolation) return false;
                    throw;
                }
            }

            /// <summary>Volume and index: one file has one, whatever it is called.</summary>
            private static string Identity(SafeFileHandle file)
            {
                byte[] told = new byte[52];
                if (!GetFileInformationByHandle(file, told))
                    Marshal.ThrowExceptionForHR(Marshal.GetHRForLastWin32Error());
                return BitConverter.ToUInt32(told, 28) + ":" + BitConverter.ToUInt64(told, 44);
            }
        }
    }

    /// <summary>64-bit Linux under Mono, where the guard is tested side by side with the Python one.</summary>
    internal sealed class LinuxSystem : HostSystem
    {
        private const int ClockBoottime = 7;
        private const int ReadWrite = 2, WriteOnly = 1, Create = 0x40, Exclusive = 0x80, NonBlocking = 0x800;
        private const int NoFollow = 0x20000, CloseOnExec = 0x80000;
        private const int NoEntry = 2, Interrupted = 4, WouldBlock = 11;
        private const int CurrentFolder = -100, EmptyPath = 0x1000, SymlinkNoFollow = 0x100, BasicStats = 0x7FF;
        private const int FormatMask = 0xF000, RegularFile = 0x8000;
        private const string NetworkTypes =
            " 9p acfs afpfs afs beegfs ceph cifs coda cvmfs davfs fuse.ceph fuse.cephfs fuse.curlftpfs fuse.davfs2 "
            + "fuse.gcsfuse fuse.glusterfs fuse.goofys fuse.juicefs fuse.mfs fuse.rclone fuse.s3fs fuse.smbnetfs "
            + "fuse.sshfs fuse.vmhgfs-fuse gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs pvfs2 smb3 smbfs "
            + "vboxsf virtiofs webdav ";

        [DllImport("libc", SetLastError = true)]
        private static extern int clock_gettime(int clock, [Out] long[] secondsAndNanoseconds);

        [DllImport("libc", SetLastError = true)]
        private static extern int open(byte[] path, int flags, int mode);

        [DllImport("libc")]
        private static extern int close(int descriptor);

        [DllImport("libc", SetLastError = true)]
        private static extern int flock(int descriptor, int operation);

        [DllImport("libc", SetLastError = true)]
        private static extern int statx(int folder, byte[] path, int flags, int mask, [Out] byte[] found);

        [DllImport("libc", SetLastError = true)]
        private static extern IntPtr pwrite(int descriptor, byte[] content, IntPtr count, IntPtr offset);

        [DllImport("libc", SetLastError = true)]
        private static extern IntPtr pread(int descriptor, [Out] byte[] content, IntPtr count, IntPtr offset);

        [DllImport("libc", SetLastError = true)]
        private static extern int ftruncate(int descriptor, IntPtr length);

        [DllImport("libc", SetLastError = true)]
        private static extern int rename(byte[] from, byte[] to);

        [DllImport("libc", SetLastError = true)]
        private static extern int utimensat(int folder, byte[] path, IntPtr times, int flags);

        [DllImport("libc")]
        private static extern IntPtr strerror(int number);

        internal override double Now()
        {
            long[] now = new long[2];
            if (clock_gettime(ClockBoottime, now) != 0) throw Failed("the clock");
            return now[0] + now[1] / 1e9;
        }

        internal override string BootId()
        {
            try
            {
                return File.ReadAllText("/proc/sys/kernel/random/boot_id").Trim();
            }
            catch (Exception)
            {
                return "";
            }
        }

        internal override long? ProcessStartTime()
        {
            try
            {
                string stat = File.ReadAllText("/proc/self/stat");
                string[] fields = stat.Substring(stat.LastIndexOf(')') + 2).Split(' ');
                return long.Parse(fields[19], CultureInfo.InvariantCulture);
            }
            catch (Exception)
            {
                return null;
            }
        }

        internal override string DefaultRoot()
        {
            throw new InvalidConfiguration("Name a project root; on Linux this guard has no default.");
        }

        internal override string NetworkFileSystem(string folder)
        {
            string best = "", kind = "";
            foreach (string line in File.ReadAllLines("/proc/self/mounts"))
            {
                string[] fields = line.Split(' ');
                if (fields.Length < 3) continue;
                string point = Regex.Replace(
                    fields[1], @"\\([0-7]{3})", match => ((char)Convert.ToInt32(match.Groups[1].Value, 8)).ToString());
                bool isInside = folder == point
                    || folder.StartsWith(point.TrimEnd('/') + "/", StringComparison.Ordinal);
                // A later line with the same mount point lies on top of the earlier one.
                if (!isInside || point.Length < best.Length) continue;
                best = point;
                kind = fields[2];
            }
            return NetworkTypes.Contains(" " + kind + " ") ? kind : null;
        }

        internal override OsLock Open(string path, bool create)
        {
            int descriptor = OpenFile(
                path, ReadWrite | NoFollow | CloseOnExec | NonBlocking | (create ? Create : 0), Octal600);
            if (descriptor < 0)
            {
                if (!create && Marshal.GetLastWin32Error() == NoEntry) return null;
                throw Failed(path);
            }
            LinuxLock opened = new LinuxLock(path, descriptor);
            if (opened.IsRegular()) return opened;
            opened.Close();
            throw new IOException("not a regular file: " + path);
        }

        internal override FoundFile Look(string path)
        {
            byte[] found = Status(CurrentFolder, path, SymlinkNoFollow);
            if (found == null) return null;
            DateTime epoch = new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc);
            return new FoundFile
            {
                IsRegular = IsRegular(found),
                ModifiedUtc = epoch.AddSeconds(BitConverter.ToInt64(found, 112))
                    .AddTicks(BitConverter.ToUInt32(found, 120) / 100)
            };
        }

        internal override byte[] Read(string path, int most)
        {
            int descriptor = OpenFile(path, NoFollow | CloseOnExec | NonBlocking, 0);
            if (descriptor < 0) throw Failed(path);
            try
            {
                byte[] buffer = new byte[most];
                int filled = 0;
                while (filled < most)
                {
                    byte[] part = new byte[most - filled];
                    int count = (int)pread(descriptor, part, (IntPtr)part.Length, (IntPtr)filled);
                    if (count < 0) throw Failed(path);
                    if (count == 0) break;
                    Array.Copy(part, 0, buffer, filled, count);
                    filled += count;
                }
                Array.Resize(ref buffer, filled);
                return buffer;
            }
            finally
            {
                close(descriptor);
            }
        }

        internal override void Put(string path, byte[] content)
        {
            string fresh = Path.Combine(Path.GetDirectoryName(path), "." + Path.GetFileName(path) + ".new");
            File.Delete(fresh);
            int descriptor = OpenFile(fresh, WriteOnly | Create | Exclusive | NoFollow | CloseOnExec, Octal644);
            if (descriptor < 0) throw Failed(fresh);
            try
            {
                if ((int)pwrite(descriptor, content, (IntPtr)content.Length, IntPtr.Zero) != content.Length)
                    throw Failed(fresh);
                if (rename(Bytes(fresh), Bytes(path)) != 0) throw Failed(path);
            }
            catch (Exception)
            {
                File.Delete(fresh);
                throw;
            }
            finally
            {
                close(descriptor);
            }
        }

        internal override void Touch(string path)
        {
            if (utimensat(CurrentFolder, Bytes(path), IntPtr.Zero, SymlinkNoFollow) != 0) throw Failed(path);
        }

        private const int Octal600 = 0x180, Octal644 = 0x1A4;

        private static int OpenFile(string path, int flags, int mode)
        {
            int descriptor;
            do descriptor = open(Bytes(path), flags, mode);
            while (descriptor < 0 && Marshal.GetLastWin32Error() == Interrupted);
            return descriptor;
        }

        /// <summary>The same layout on every architecture; null where nothing is.</summary>
        private static byte[] Status(int folder, string path, int flags)
        {
            byte[] found = new byte[256];
            if (statx(folder, Bytes(path), flags, BasicStats, found) == 0) return found;
            if (Marshal.GetLastWin32Error() == NoEntry) return null;
            throw Failed(path);
        }

        private static bool IsRegular(byte[] status)
        {
            return (BitConverter.ToUInt16(status, 28) & FormatMask) == RegularFile;
        }

        private static byte[] Bytes(string path)
        {
            return Encoding.UTF8.GetBytes(path + "\0");
        }

        private static IOException Failed(string path)
        {
            return new IOException(Marshal.PtrToStringAnsi(strerror(Marshal.GetLastWin32Error())) + ": " + path);
        }

        private sealed class LinuxLock : OsLock
        {
            private const int Shared = 1, Exclusively = 2, NonBlocked = 4, Unlocked = 8;

            private readonly string path;
            private int descriptor;

            internal LinuxLock(string path, int descriptor)
            {
                this.path = path;
                this.descriptor = descriptor;
            }

            internal bool IsRegular()
            {
                return LinuxSystem.IsRegular(Own());
            }

            internal override bool Take()
            {
                return Lock(Exclusively);
            }

            internal override bool IsHeldElsewhere()
            {
                return !Lock(Shared);
            }

            internal override bool IsIntact()
            {
                try
                {
                    byte[] there = Status(CurrentFolder, path, SymlinkNoFollow);
                    return there != null && Identity(there) == Identity(Own());
                }
                catch (Exception)
                {
                    return false;
                }
            }

            internal override bool IsMarked()
            {
                return BitConverter.ToInt64(Own(), 40) > 0;
            }

            internal override void Mark()
            {
                if ((int)pwrite(descriptor, HeldMark, (IntPtr)HeldMark.Length, IntPtr.Zero) != HeldMark.Length)
                    throw Failed(path);
            }

            internal override void Unmark()
            {
                if (ftruncate(descriptor, IntPtr.Zero) != 0) throw Failed(path);
            }

            internal override void Unlock()
            {
                if (descriptor >= 0) flock(descriptor, Unlocked);
                Close();
            }

            internal override void Close()
            {
                if (descriptor >= 0) close(descriptor);
                descriptor = -1;
            }

            private bool Lock(int operation)
            {
                if (flock(descriptor, operation | NonBlocked) == 0) return true;
                if (Marshal.GetLastWin32Error() == WouldBlock) return false;
                throw Failed(path);
            }

            private byte[] Own()
            {
                return Status(descriptor, "", EmptyPath);
            }

            /// <summary>Device and inode: one file has one, whatever it is called.</summary>
            private static string Identity(byte[] status)
            {
                return BitConverter.ToUInt64(status, 136) + ":" + BitConverter.ToUInt64(status, 32);
            }
        }
    }

    #endregion
}

/*
 * Operations that change several words, of one stripe or of two: a log in a journal, one commit store, deaths anywhere,
 * and the replay with which recovery begins. The lock protocol alone is in stripe.pml.
 *
 * What it says of the code (shm_store/table/: transaction.py, hot.py; locking/journal.py, stripes.py, recovery.py):
 *   - one statement here is one store or one read there; everything interleaves, and a process may die before any;
 *   - stripe A guards two words, stripe B one. An operation holds A and changes its words; or holds B and changes its
 *     word, with a log or by one store without; or holds both and changes all three, or those of A alone. It may commit
 *     again before it releases, and give up waiting;
 *   - the log is in the journal of the lowest stripe that the operation holds. The journal of A has room for two pairs,
 *     each a word and its value. A log of three words begins with that of B; its rest is in the journal of B. The
 *     length, in the journal of A, is that of all of it;
 *   - a change turns a word, so a word is right or wrong, and that is the bit kept of it, and of a value in a journal.
 *     A commit makes right what was wrong, and wrong what was right: the words as they are, and older logs;
 *   - "dead" is what the code calls gone: the process died, or the phase of its seat is LOST;
 *   - recoverers exclude each other by the registry lock, so one that may die at any step, and start again with any
 *     stripe, stands for all; `moved` stands for "the mark is not the one noted".
 *
 * What is checked (assertions; with -DWHOLE_ALONE only the first):
 *   - a process that acquires a stripe finds its words right: what was committed is there, all of it, once, and nothing
 *     else is;
 *   - a replay stores and a release releases for the stripe's holder, and no value exceeds 1;
 *   - a seat that changes its owner is not COMMITTED.
 * With TIMELY, which says that a waiter's pause outlasts a hold and a recovery, and leaves out the words, as they steer
 * nothing; and with a bound on the deaths:
 *   - there is no deadlock (invalid end states; compiled with -DNOCLAIM);
 *   - a stripe whose holder died becomes free (the formula `freed`, under weak fairness).
 *
 * Each -DBREAK_* takes one thing out of the protocol; `make model` requires that the model holds as it is and that
 * SPIN finds an error in every broken one.
 */

#ifndef WORKERS
#define WORKERS 2		/* or 3 */
#endif
/* How many processes die, recoverers included; without it there is no end to the deaths. */
#ifdef DEATHS
byte deaths = DEATHS;
#define A_DEATH deaths > 0 -> deaths--
#else
#define A_DEATH true
#endif
#ifdef WHOLE_ALONE
#define LOCKS(check) skip
#else
#define LOCKS(check) check
#endif
#ifdef TIMELY
#define NOT(x) x
#else
#define NOT(x) !x
#endif

#define A 0
#define B 1
#define TWICE (2 * WORKERS)
#define NOBODY WORKERS

bool busy[TWICE];		/* what the seats say: BUSY or IDLE on each stripe, */
bool committed[WORKERS];	/* and COMMITTED */
byte sem[2] = 1;
byte length_a;			/* the journals: the length of the log that begins in A's: 0, 2 or 3; */
bool length_b;			/* and in B's; */
bool first_is_b;		/* A's pairs are of B's word and A's first one, or else of A's two words; */
bool rest_of_a;			/* B's pair is of A's second word, or else of B's word; */
bool log_a[2], log_b;		/* and the values: whether they are wrong */
bool word_a[2], word_b;		/* what the stripes guard: whether it is wrong */
bool dead[WORKERS];
bool registry;			/* the lock under which seats change owners and stripes are recovered */
bool noted[2];			/* a recoverer has noted the mark of the stripe, */
bool moved;			/* and a hold of it has been completed since */

/* What no process can see: who is between the semaphore's acquire and its release. */
byte holder[2] = NOBODY;

#define BUSY(i, s) busy[2 * (i) + (s)]
#define GONE(i, s) (dead[i] && BUSY(i, s))
#if WORKERS == 2
#define SOMEBODY_GONE(s) (GONE(0, s) || GONE(1, s))
#else
#define SOMEBODY_GONE(s) (GONE(0, s) || GONE(1, s) || GONE(2, s))
#endif
#define DEAD_HOLDS(s) (holder[s] != NOBODY && dead[holder[s]])
#define WHOLE(s) (s == A && !word_a[0] && !word_a[1] || s == B && !word_b)
/* A value in a journal turns with the word it is of. */
#define TURN_WITH(value, is_of_it) value = (is_of_it -> NOT(value) : value)
#define TURN_A \
	word_a[0] = NOT(word_a[0]); word_a[1] = NOT(word_a[1]); \
	TURN_WITH(log_a[0], !first_is_b); log_a[1] = NOT(log_a[1]); TURN_WITH(log_b, rest_of_a)
#define TURN_LOGS_OF_B TURN_WITH(log_a[0], first_is_b); TURN_WITH(log_b, !rest_of_a)
#define TURN_B word_b = NOT(word_b); TURN_LOGS_OF_B

/* The stores of a log. */
#define STORE_FIRST \
	if \
	:: first_is_b -> word_b = log_a[0] \
	:: else -> word_a[0] = log_a[0] \
	fi
#define STORE_SECOND \
	if \
	:: first_is_b -> word_a[0] = log_a[1] \
	:: else -> word_a[1] = log_a[1] \
	fi
#define STORE_OF_B \
	if \
	:: rest_of_a -> word_a[1] = log_b \
	:: else -> word_b = log_b \
	fi

/* One store or one read of a worker, unless it dies first. */
#define STEP(what) if :: what OR_DIE fi
#define OR_DIE :: d_step { A_DEATH; dead[me] = true; change_b = false } -> goto died

inline acquire(s)
{
	do
	:: STEP(BUSY(me, s) = true);
		if
		:: d_step {
			sem[s] > 0 ->
			sem[s]--;
			LOCKS(assert(holder[s] == NOBODY));
			holder[s] = me;
			assert(WHOLE(s))
		} -> break
		:: sem[s] == 0
		OR_DIE
		fi;
		STEP(BUSY(me, s) = false);
		if
#ifdef TIMELY
		:: sem[s] > 0 && !SOMEBODY_GONE(s)
		OR_DIE
#else
		:: true
		:: break	/* IDLE: it gave up */
#endif
		fi
	od
}

inline release(s)
{
	STEP(moved = moved || noted[s]);
	STEP(d_step { LOCKS(assert(holder[s] == me)); holder[s] = NOBODY; sem[s]++; LOCKS(assert(sem[s] <= 1)) });
#ifdef BREAK_CLEAR_AFTER_RELEASE
	STEP(committed[me] = false);
#endif
	STEP(BUSY(me, s) = false)
}

inline commit()
{
	STEP(d_step {
		committed[me] = true;
		if
		:: BUSY(me, A) -> TURN_A
		:: else
		fi;
		if
		:: change_b -> TURN_B
		:: else
		fi
	})
}

#ifdef BREAK_REGISTRY
#define RECOVERING false
#else
#define RECOVERING registry
#endif

proctype Worker(byte me)
{
	bool change_b;
idle:
	atomic { change_b = false };
	if
	:: goto alone_b
	:: true
	:: change_b = true
	OR_DIE
	fi;
#ifdef BREAK_ORDER
	if
	:: change_b && me == 1 -> acquire(B); acquire(A); goto journal
	:: else
	fi;
#endif
	acquire(A);
	if
	:: !BUSY(me, A) -> goto idle
	:: BUSY(me, A) && !change_b
	:: BUSY(me, A) ->
#ifdef BREAK_COMMIT_BEFORE_HOLD
		STEP(committed[me] = true);
#endif
		acquire(B);
		if
		:: !BUSY(me, B) -> goto release_a
		:: else
		fi
	fi;
journal:
	if
	:: change_b ->
		STEP(d_step { first_is_b = true; log_a[0] = NOT(word_b) });
		STEP(log_a[1] = NOT(word_a[0]))
	:: else ->
		STEP(d_step { first_is_b = false; log_a[0] = NOT(word_a[0]) });
		STEP(log_a[1] = NOT(word_a[1]))
	fi;
#ifdef BREAK_COMMIT_BEFORE_LENGTH
	commit();
#endif
	if
	:: change_b ->
		STEP(length_a = 3);
#ifdef BREAK_COMMIT_BEFORE_REST
		commit();
#endif
		STEP(d_step { rest_of_a = true; log_b = NOT(word_a[1]) })
	:: else -> STEP(length_a = 2)
	fi;
#if !defined(BREAK_COMMIT_BEFORE_LENGTH) && !defined(BREAK_COMMIT_BEFORE_REST)
	commit();
#endif
#ifdef BREAK_COMMIT_BEFORE_REST
	if
	:: !change_b -> commit()
	:: else
	fi;
#endif
	STEP(STORE_FIRST);
#ifdef BREAK_CLEAR_BEFORE_STORES
	STEP(committed[me] = false);
#endif
	STEP(STORE_SECOND);
	if
	:: change_b -> STEP(STORE_OF_B)
	:: else
	fi;
#ifndef BREAK_CLEAR_AFTER_RELEASE
	STEP(committed[me] = false);
	if
	:: goto journal
	:: true
	fi;
#endif
	if
	:: BUSY(me, B) -> release(B)
	:: else
	fi;
release_a:
	release(A);
	goto idle;
alone_b:
	acquire(B);
	if
	:: !BUSY(me, B) -> goto idle
	:: else
	fi;
	if
	:: true ->
		/* One store: the word is turned, and stays right. */
		STEP(d_step { TURN_LOGS_OF_B })
	:: true ->
		change_b = true;
		STEP(d_step { rest_of_a = false; log_b = NOT(word_b) });
		STEP(length_b = true);
		commit();
		STEP(STORE_OF_B);
		STEP(committed[me] = false)
	fi;
	release(B);
	goto idle;
died:
	/* A seat is given to another process once it is IDLE. */
	atomic {
		!BUSY(me, A) && !BUSY(me, B) && !RECOVERING ->
		LOCKS(assert(!committed[me]));
		dead[me] = false
	};
	goto idle
}

/* One store or one read of a recoverer, unless it dies first. */
#define RECOVER(what) if :: what OR_END fi
#define OR_END :: d_step { A_DEATH } -> goto again
/* The next seat, or the end of the loop. */
#define NEXT i = (i + 1) % WORKERS; if :: i == 0 -> break :: else fi
#define FORGET noted[A] = false; noted[B] = false; moved = false; i = 0; \
	gone[0] = false; gone[1] = false; gone[WORKERS - 1] = false

#ifdef BREAK_COMMITTED_FIRST
bool was_committed[WORKERS];
#define COMMITTED(i) was_committed[i]
#else
#define COMMITTED(i) committed[i]
#endif
#ifdef BREAK_REPLAY_ONE_STRIPE
#define HELD(i, t) (BUSY(i, t) && t == s)
#else
#define HELD(i, t) BUSY(i, t)
#endif
/* Of a log, the rest; of the lowest stripe, all of it. */
#ifdef BREAK_REPLAY_EACH_JOURNAL
#define IS_STORED_FROM_B(i) (length_b || HELD(i, A) && length_a == 3)
#else
#define IS_STORED_FROM_B(i) (HELD(i, A) -> length_a == 3 : length_b)
#endif
#ifdef BREAK_DEAD_SINCE
#define ANOTHER(i) (BUSY(i, s) && !gone[i] && !dead[i])
#else
#define ANOTHER(i) (BUSY(i, s) && !gone[i])
#endif

/* What a gone seat has committed is done; may be repeated. A seat that is COMMITTED holds where it is BUSY. */
inline replay()
{
	do
	:: atomic { !(gone[i] && COMMITTED(i)) -> NEXT }
	:: gone[i] && COMMITTED(i) ->
		if
		:: HELD(i, A) && length_a > 0 ->
			RECOVER(d_step { LOCKS(assert(holder[first_is_b] == i)); STORE_FIRST });
			RECOVER(d_step { LOCKS(assert(holder[A] == i)); STORE_SECOND })
		:: else
		fi;
		if
		:: HELD(i, B) && IS_STORED_FROM_B(i) ->
			RECOVER(d_step { LOCKS(assert(holder[!rest_of_a] == i)); STORE_OF_B })
		:: else
		fi;
#ifdef BREAK_NOT_CLEARED
		atomic { NEXT }
#else
		if
		:: atomic { committed[i] = false; NEXT }
		OR_END
		fi
#endif
	OR_END
	od
}

/* Nobody is BUSY but the seats of step 1, whether alive or dead since; else start over. */
inline require_nobody_else()
{
	do
	:: atomic { !ANOTHER(i) -> NEXT }
	:: ANOTHER(i) -> goto over
	OR_END
	od
}

proctype Recoverer()
{
	byte i;
	bit s;
	bool gone[WORKERS];
again:
	atomic { registry = false; s = A; FORGET };
	if
	:: d_step { SOMEBODY_GONE(A) -> registry = true }
	:: d_step { SOMEBODY_GONE(B) -> registry = true; s = B }
	fi;
	goto round;
over:
	/* Another recoverer gets the lock before it goes on. */
#ifdef BREAK_REGISTRY_KEPT
	atomic { FORGET };
#else
	atomic { registry = false; FORGET };
	if
	:: d_step { SOMEBODY_GONE(1 - s) -> registry = true; s = 1 - s }
	:: d_step { !SOMEBODY_GONE(1 - s) -> registry = true }
	fi;
#endif
round:
	/* 1. Who is BUSY, who of these is gone, and who of these COMMITTED, read in this order. */
	do
	:: atomic {
		gone[i] = BUSY(i, s);
#ifdef BREAK_COMMITTED_FIRST
		was_committed[i] = committed[i];
#endif
		NEXT
	}
	OR_END
	od;
	do
	:: atomic { gone[i] = gone[i] && dead[i]; NEXT }
	OR_END
	od;
#ifndef BREAK_REPLAY_LATE
	replay();
#endif
	if
	:: sem[s] != 0 -> goto settled
	:: sem[s] == 0
	OR_END
	fi;
	/* 2. The mark. */
	RECOVER(noted[s] = true);
	/* 3. Nobody else is busy. */
	require_nobody_else();
	/* 4. The value. */
	if
	:: sem[s] != 0 -> goto settled
	:: sem[s] == 0
	OR_END
	fi;
	/* 5. Still nobody else is busy, */
	require_nobody_else();
	/* 6. and the mark has not moved. */
	if
	:: moved -> goto over
	:: !moved
	OR_END
	fi;
	/* 7. Release for the one of the gone that holds. */
	RECOVER(d_step {
		LOCKS(assert(DEAD_HOLDS(s)));
		LOCKS(assert(gone[holder[s]]));
		holder[s] = NOBODY;
		sem[s]++;
		LOCKS(assert(sem[s] <= 1))
	});
#ifdef BREAK_REPLAY_LATE
	replay();
#endif
settled:
	do
	:: atomic {
		if
		:: gone[i] -> BUSY(i, s) = false
		:: else
		fi;
		NEXT
	}
	OR_END
	od;
	goto again
}

init {
	atomic {
		run Worker(0);
		run Worker(1);
#if WORKERS > 2
		run Worker(2);
#endif
		run Recoverer()
	}
}

#ifdef TIMELY
ltl freed { [] (DEAD_HOLDS(A) -> <> !DEAD_HOLDS(A)) && [] (DEAD_HOLDS(B) -> <> !DEAD_HOLDS(B)) }
#endif

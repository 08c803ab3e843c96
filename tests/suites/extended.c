/*
 * Between psql and libpq: a query that would go by the simple protocol goes by the extended one; with PROTOCOL=prepared
 * in the environment as a named statement, which is used again when the same text comes again, unless something has been
 * created, altered or dropped meanwhile: a plan from before that may be made anew at any time.
 *
 * COPY stays as it is: psql sends its data line by line and looks for no answer to what the extended protocol has around it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "libpq-fe.h"

struct statement {
	const PGconn *conn;
	char *text;
	struct statement *next;
	char name[32];
};

static struct statement *statements;

/* psql sends the comments before a statement, too. */
static int begins_with(const char *text, const char *word)
{
	for (;;) {
		text += strspn(text, " \t\n(");
		if (strncmp(text, "--", 2) == 0)
			text += strcspn(text, "\n");
		else if (strncmp(text, "/*", 2) == 0 && strstr(text, "*/"))
			text = strstr(text, "*/") + 2;
		else
			return strncasecmp(text, word, strlen(word)) == 0;
	}
}

static int changes_schema(const char *text)
{
	static const char *const words[] = {"create", "alter", "drop", "do", "call", "grant", "revoke", "reassign"};

	for (size_t n = 0; n < sizeof words / sizeof *words; n++)
		if (begins_with(text, words[n]))
			return 1;
	return 0;
}

/* What has been prepared on a connection is not used again. */
static void forget(const PGconn *conn)
{
	for (struct statement *known = statements; known; known = known->next)
		if (known->conn == conn)
			known->conn = NULL;
}

/* The statement of a text, prepared; NULL where PostgreSQL refuses it, which the connection tells then. */
static const char *prepared(PGconn *conn, const char *text)
{
	static int count;
	struct statement *known = statements;
	PGresult *answer;

	while (known && (known->conn != conn || strcmp(known->text, text) != 0))
		known = known->next;
	if (known)
		return known->name;
	known = malloc(sizeof *known);
	known->conn = conn;
	known->text = strdup(text);
	snprintf(known->name, sizeof known->name, "regress_%d", ++count);
	answer = PQprepare(conn, known->name, text, 0, NULL);
	if (PQresultStatus(answer) == PGRES_COMMAND_OK) {
		known->next = statements;
		statements = known;
	} else {
		free(known->text);
		free(known);
		known = NULL;
	}
	PQclear(answer);
	return known ? known->name : NULL;
}

int PQsendQuery(PGconn *conn, const char *text)
{
	const char *protocol = getenv("PROTOCOL"), *name;

	if (begins_with(text, "copy")) {
		int (*simple)(PGconn *, const char *) = (int (*)(PGconn *, const char *)) dlsym(RTLD_NEXT, "PQsendQuery");

		return simple(conn, text);
	}
	if (!protocol || strcmp(protocol, "prepared") != 0)
		return PQsendQueryParams(conn, text, 0, NULL, NULL, NULL, NULL, 0);
	if (changes_schema(text))
		forget(conn);
	name = prepared(conn, text);
	return name ? PQsendQueryPrepared(conn, name, 0, NULL, NULL, NULL, 0) : 0;
}

PGresult *PQexec(PGconn *conn, const char *text)
{
	return PQexecParams(conn, text, 0, NULL, NULL, NULL, NULL, 0);
}

/* A new connection may have the address of one that has been closed. */
void PQfinish(PGconn *conn)
{
	void (*finish)(PGconn *) = (void (*)(PGconn *)) dlsym(RTLD_NEXT, "PQfinish");

	forget(conn);
	finish(conn);
}

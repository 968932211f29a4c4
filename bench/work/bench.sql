-- SPDX-License-Identifier: MIT
-- What bench/work/program.c's sqlite row runs; the table scale has the count.
pragma journal_mode=delete;
pragma synchronous=off;
create table item(id integer primary key, name text, price integer, kind integer);
begin;
insert into item with recursive c(i) as (select 1 union all select i + 1 from c where i < (select n from scale) * 200)
	select i, printf('item-%d', i * 7919 % 100003), i * 31 % 1009, i % 17 from c;
commit;
create index item_name on item(name);
select kind, count(*), sum(price), min(name), max(name) from item group by kind order by kind;
update item set price = price + 1 where kind in (3, 5, 7);
select count(*), sum(a.price * b.price) from item a join item b on b.id = a.price where a.name like 'item-1%';
delete from item where id % 10 = 3;
select count(*), sum(length(name)), sum(price) from (select * from item order by name desc limit (select n from scale) * 50);
select count(*) from item i where exists (select 1 from item k where k.name = printf('item-%d', i.id % 5000));
